"""MXNet 1.9.1, just imported -> patched for NumPy 2, and with a one-line error for what its wheel lacks."""

import functools
import operator
import platform

import numpy as np

from gluon_lenet.errors import InputError


def patch_mxnet(mxnet):
    """Patch MXNet, just imported, for what NumPy 2 changed: printed numbers, types of scalars, names of methods."""
    if not mxnet.runtime.Features().is_enabled("DIST_KVSTORE"):
        mxnet.kvstore.create = _without_ps_lite(mxnet.kvstore.create, mxnet.base.MXNetError)

    if np.lib.NumpyVersion(np.__version__) < "2.0.0":
        return  # MXNet 1.9.1 was written for NumPy 1: restoring the names is enough

    # NumPy 2 prints a list of its numbers as [np.int64(3)], and MXNet passes parameters, shapes and attributes to its C
    # core as text: the modules that do so get a `str` that prints plain numbers.
    for module in (mxnet._ctypes.ndarray, mxnet._ctypes.symbol, mxnet.symbol.symbol, mxnet.io.io):
        module.str = _ParameterText

    # np.int64(2) == () is an empty array, which has no truth value since NumPy 2.2: `size` must be a Python number.
    for module in (mxnet.ndarray.numpy.random, mxnet.symbol.numpy.random):
        for name in module.__all__:
            setattr(module, name, _with_plain_numbers(getattr(module, name)))

    # 0.0 + np.float32(x) was float64 in NumPy 1 and is float32 in NumPy 2, so that sums of `asscalar()`, as in the
    # book's loops, and metrics lose digits: such scalars compute as in NumPy 1, and sums of metrics are float64.
    asscalar = mxnet.nd.NDArray.asscalar
    mxnet.nd.NDArray.asscalar = functools.wraps(asscalar)(lambda self: _numpy_1_scalar(asscalar(self)))
    mxnet.metric.EvalMetric.sum_metric = _Float64("sum_metric")
    mxnet.metric.EvalMetric.global_sum_metric = _Float64("global_sum_metric")

    # Renamed in NumPy: ndarray.tostring was removed in 2.3, and numpy.core warns since 2.0.
    for function in (mxnet.recordio.pack, mxnet.recordio.pack_img):
        _rename(function, tostring="tobytes")
    _rename(mxnet.nd.moveaxis, core="_core")


def _without_ps_lite(create, mxnet_error):
    """`mxnet.kvstore.create`, also as `Trainer` calls it; its error names the wheel that has distributed stores."""

    @functools.wraps(create)
    def wrapper(name="local"):
        try:
            return create(name)
        except mxnet_error as error:
            if "USE_DIST_KVSTORE" not in str(error):
                raise
        raise InputError(
            f"kvstore {name!r} needs ps-lite, without which MXNet's wheel for {platform.system()} on "
            f"{platform.machine()} is built; its wheel for Linux on x86-64 has it, and on one machine 'device' works"
        )

    return wrapper


class _TextType(type):
    def __instancecheck__(cls, instance):
        return isinstance(instance, str)


class _ParameterText(metaclass=_TextType):
    """`str` as MXNet should see it: str((np.int64(3), np.float32(0.5))) is "(3, 0.5)"; isinstance() works as usual."""

    def __new__(cls, value=""):
        return str(_plain(value))


def _plain(value):
    """The same value with NumPy's numbers replaced by Python's, in tuples and lists too."""
    if type(value) in (tuple, list):
        return type(value)(map(_plain, value))
    return value.item() if isinstance(value, np.generic) else value


def _with_plain_numbers(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*map(_plain, args), **{name: _plain(value) for name, value in kwargs.items()})

    return wrapper


class _Float64:
    """An attribute that stores floats as float64, so that sums are accumulated in float64."""

    def __init__(self, name):
        self.name = name

    def __get__(self, instance, owner=None):
        return self if instance is None else vars(instance)[self.name]

    def __set__(self, instance, value):
        vars(instance)[self.name] = np.float64(value) if isinstance(value, (float, np.floating)) else value


def _numpy_1_scalar(value):
    """A NumPy scalar that computes and prints as in NumPy 1; other than narrow types are returned unchanged."""
    return _numpy_1_type(type(value))(value) if type(value) in _NARROW else value


_NARROW = (np.float16, np.float32, np.int8, np.int16, np.int32, np.uint8, np.uint16, np.uint32)


@functools.cache
def _numpy_1_type(kind):
    """A subclass of `kind` that treats Python operands as int64, float64 or complex128."""

    def method(operation):
        return lambda self, *others: _numpy_1_scalar(operation(kind(self), *map(_wide, others)))

    def reflected(operation):
        return lambda self, other: _numpy_1_scalar(operation(_wide(other), kind(self)))

    names = {"__repr__": kind.__str__, "__hash__": kind.__hash__}
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
        names[f"__{name}__"] = method(getattr(operator, name))
        names[f"__r{name}__"] = reflected(getattr(operator, name))
    for name in ("neg", "abs", "lt", "le", "eq", "ne", "ge", "gt"):
        names[f"__{name}__"] = method(getattr(operator, name))
    return type(kind.__name__, (kind,), names)


def _wide(value):
    return np.array(value)[()] if type(value) in (int, float, complex) else value


def _rename(function, **names):
    """Make `function` look up attributes by their new names."""
    code = function.__code__
    function.__code__ = code.replace(co_names=tuple(names.get(name, name) for name in code.co_names))
