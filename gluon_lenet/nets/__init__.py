"""The nets: what stock Gluon lacks, the nets by name, their layers as a table."""
