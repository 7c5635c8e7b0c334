"""Current NumPy -> the names that MXNet 1.9.1 uses from it, with their old meanings."""

import builtins
import importlib.util
from math import inf, nan
from types import SimpleNamespace

import numpy as np


def missing_names() -> dict:
    """The names that MXNet 1.9.1 uses and some NumPy since 1.24 lacks, each with its old meaning."""
    names = {name: getattr(builtins, name) for name in ("bool", "int", "float", "complex", "object", "str")}
    names |= {"PZERO": 0.0, "NZERO": -0.0, "NAN": nan, "NaN": nan}
    names |= {"PINF": inf, "NINF": -inf, "Inf": inf, "Infinity": inf, "infty": inf}
    names |= {"float_": np.float64, "int0": np.intp, "string_": np.bytes_, "unicode_": np.str_}
    names |= {"product": np.prod, "cumproduct": np.cumprod, "alltrue": np.all, "sometrue": np.any, "round_": np.round}
    names |= {"row_stack": np.vstack, "trapz": vars(np).get("trapezoid") or vars(np).get("trapz")}
    names |= {function.__name__: function for function in (in1d, msort, asfarray, find_common_type)}
    if importlib.util.find_spec("numpy.compat") is None:
        names["compat"] = SimpleNamespace(basestring=str)
    return names | {name: _gone(name) for name in ("mirr", "npv", "pmt", "ppmt", "pv", "rate")}


def in1d(ar1, ar2, assume_unique=False, invert=False, **kind):
    """`numpy.in1d`, removed in NumPy 2.4: which elements of the flattened `ar1` are in `ar2`."""
    return np.isin(np.ravel(ar1), ar2, assume_unique=assume_unique, invert=invert, **kind)


def msort(a):
    """`numpy.msort`, removed in NumPy 2.0: a copy of `a` sorted along its first axis."""
    return np.sort(a, axis=0)


def asfarray(a, dtype=np.float64):
    """`numpy.asfarray`, removed in NumPy 2.0: `a` as an array of floats; integers become float64."""
    return np.asarray(a, dtype=dtype if np.issubdtype(dtype, np.inexact) else np.float64)


def find_common_type(array_types, scalar_types):
    """`numpy.find_common_type`, removed in NumPy 2.0: scalars matter only if their kind is above the arrays'."""
    arrays = np.result_type(*array_types) if len(array_types) else None
    scalars = np.result_type(*scalar_types) if len(scalar_types) else None
    if arrays is None or scalars is None:
        return arrays or scalars
    kinds = "buifcSUVOMm"
    return np.promote_types(arrays, scalars) if kinds.index(scalars.kind) > kinds.index(arrays.kind) else arrays


def _gone(name):
    """A function that MXNet imports but never calls: NumPy moved it to another package in 1.20."""

    def gone(*args, **kwargs):
        raise NotImplementedError(f"numpy.{name} left NumPy in 1.20; pip install numpy-financial has it")

    return gone
