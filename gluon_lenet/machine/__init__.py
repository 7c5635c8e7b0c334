"""This computer: its wheels, shared objects, packages and GPUs; needs only Python's standard library to import."""
