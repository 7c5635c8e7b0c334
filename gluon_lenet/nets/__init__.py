"""Layers and losses that stock Gluon lacks, the nets by name, their layers as a table."""
