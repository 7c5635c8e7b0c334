"""This computer: wheels, shared libraries, packages and GPUs; needs only Python's standard library to import."""
