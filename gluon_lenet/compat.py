"""MXNet 1.9.1 on today's NumPy, Python and IPython: the only file that knows versions."""

import builtins
import functools
import importlib.util
import operator
import os
import platform
import re
import sys
import warnings
from contextlib import suppress
from importlib.machinery import PathFinder
from math import ceil, inf, nan
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import wrapt

from gluon_lenet import machine
from gluon_lenet.errors import InputError

__all__ = [
    "MOST_THREADS",
    "check_threads",
    "num_threads",
    "physical_cores",
    "prepare",
    "set_threads",
    "why_no_mxnet",
]

MOST_THREADS = 256  # beyond a thousand, MXNet hangs or crashes on a machine of few cores

_THREADS = ("OMP_NUM_THREADS", "MXNET_OMP_MAX_THREADS")  # the first one counts


@functools.cache
def prepare() -> None:
    """Make `import mxnet` and `import d2lzh` work in this process; imports neither, and changes no name NumPy has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, value in numpy_names().items():
            if name not in vars(np):  # what NumPy gives only when asked, with a warning, stays what NumPy gives
                setattr(np, name, getattr(np, name, value))
    sys.meta_path.insert(0, _BeforeMXNet())
    wrapt.when_imported("mxnet")(_mend_mxnet)
    wrapt.when_imported("IPython.display")(_mend_ipython)
    if not any(map(os.environ.get, _THREADS)) and "mxnet" not in sys.modules:
        # MXNet takes half of the logical processors by default, however they are divided into cores.
        os.environ["MXNET_OMP_MAX_THREADS"] = str(physical_cores())


# --- NumPy ------------------------------------------------------------------------------------------------------------


def numpy_names() -> dict:
    """What MXNet 1.9.1 takes from `numpy` and some NumPy since 1.24 lacks: each name with its old meaning."""
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
    """`numpy.in1d`, gone in NumPy 2.4: which elements of the flattened `ar1` are in `ar2`."""
    return np.isin(np.ravel(ar1), ar2, assume_unique=assume_unique, invert=invert, **kind)


def msort(a):
    """`numpy.msort`, gone in NumPy 2.0: a copy of `a` sorted along its first axis."""
    return np.sort(a, axis=0)


def asfarray(a, dtype=np.float64):
    """`numpy.asfarray`, gone in NumPy 2.0: `a` as an array of floats, integers made float64."""
    return np.asarray(a, dtype=dtype if np.issubdtype(dtype, np.inexact) else np.float64)


def find_common_type(array_types, scalar_types):
    """`numpy.find_common_type`, gone in NumPy 2.0: scalars count only where their kind is above the arrays'."""
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


# --- MXNet ------------------------------------------------------------------------------------------------------------


def _mend_mxnet(mxnet):
    if not mxnet.runtime.Features().is_enabled("DIST_KVSTORE"):
        mxnet.kvstore.create = _without_ps_lite(mxnet.kvstore.create, mxnet.base.MXNetError)

    if np.lib.NumpyVersion(np.__version__) < "2.0.0":
        return  # MXNet 1.9.1 was written for NumPy 1: with the names back it is whole

    # A list of NumPy's numbers prints as [np.int64(3)], and MXNet hands parameters, shapes and attributes to its C core
    # as text: the modules that do so get a `str` that writes them as numbers.
    for module in (mxnet._ctypes.ndarray, mxnet._ctypes.symbol, mxnet.symbol.symbol, mxnet.io.io):
        module.str = _ParameterText

    # np.int64(2) == () is an empty array, which is neither true nor false any more (NumPy 2.2): `size` must be plain.
    for module in (mxnet.ndarray.numpy.random, mxnet.symbol.numpy.random):
        for name in module.__all__:
            setattr(module, name, _with_plain_numbers(getattr(module, name)))

    # 0.0 + np.float32(x) was a float64 and is a float32, so loops that add up `asscalar()`, as the book's do, and the
    # metrics, lose digits: such scalars compute as they did, sums of metrics are float64.
    asscalar = mxnet.nd.NDArray.asscalar
    mxnet.nd.NDArray.asscalar = functools.wraps(asscalar)(lambda self: _numpy_1_scalar(asscalar(self)))
    mxnet.metric.EvalMetric.sum_metric = _Float64("sum_metric")
    mxnet.metric.EvalMetric.global_sum_metric = _Float64("global_sum_metric")

    # Methods and modules NumPy renamed: ndarray.tostring went in 2.3, and numpy.core warns since 2.0.
    for function in (mxnet.recordio.pack, mxnet.recordio.pack_img):
        _rename(function, tostring="tobytes")
    _rename(mxnet.nd.moveaxis, core="_core")


def _without_ps_lite(create, mxnet_error):
    """`mxnet.kvstore.create`, for `Trainer` too, that says which wheel has what a distributed store needs."""

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
    """The same value with Python's numbers for NumPy's, in tuples and lists too."""
    if type(value) in (tuple, list):
        return type(value)(map(_plain, value))
    return value.item() if isinstance(value, np.generic) else value


def _with_plain_numbers(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*map(_plain, args), **{name: _plain(value) for name, value in kwargs.items()})

    return wrapper


class _Float64:
    """An attribute that is a float64 whenever it is a float: what is added to it is added in float64."""

    def __init__(self, name):
        self.name = name

    def __get__(self, instance, owner=None):
        return self if instance is None else vars(instance)[self.name]

    def __set__(self, instance, value):
        vars(instance)[self.name] = np.float64(value) if isinstance(value, (float, np.floating)) else value


def _numpy_1_scalar(value):
    """A NumPy scalar that computes and prints as in NumPy 1; what is no narrow number comes back as it is."""
    return _numpy_1_type(type(value))(value) if type(value) in _NARROW else value


_NARROW = (np.float16, np.float32, np.int8, np.int16, np.int32, np.uint8, np.uint16, np.uint32)


@functools.cache
def _numpy_1_type(kind):
    """A subclass of `kind` that takes a Python number beside it for an int64, a float64 or a complex128."""

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
    """Let `function` look up attributes by their new names."""
    code = function.__code__
    function.__code__ = code.replace(co_names=tuple(names.get(name, name) for name in code.co_names))


# --- IPython ----------------------------------------------------------------------------------------------------------


def _mend_ipython(display):
    """Give IPython.display back `set_matplotlib_formats`, which d2lzh calls and IPython 9 removed."""
    if "set_matplotlib_formats" not in vars(display):
        display.set_matplotlib_formats = set_matplotlib_formats


def set_matplotlib_formats(*formats, **kwargs):
    """`IPython.display.set_matplotlib_formats`, gone in IPython 9: the formats of a notebook's figures."""
    from IPython import get_ipython

    if get_ipython():  # in a script there is nothing to set, and the call would start a shell
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats(*formats, **kwargs)


# --- threads ----------------------------------------------------------------------------------------------------------


def physical_cores() -> int:
    """The number of physical cores this process may keep busy: hyperthreads of one core count once."""
    if not hasattr(os, "sched_getaffinity"):  # macOS on Intel: two hyperthreads a core on nearly every Mac
        return max(1, os.cpu_count() // 2)
    return min(_cores(os.sched_getaffinity(0)), _container_limit())


def _cores(cpus, system=Path("/sys/devices/system/cpu")) -> int:
    """The number of cores that these logical processors belong to."""
    try:
        return len({(system / f"cpu{cpu}/topology/thread_siblings_list").read_text() for cpu in cpus})
    except OSError:  # some sandboxes hide /sys
        return len(cpus)


def _container_limit(cgroup=Path("/sys/fs/cgroup")) -> float:
    """The processors `docker run --cpus` or Kubernetes leave to this container, at least 1; inf without a limit."""
    files = ["cpu.max"] if (cgroup / "cpu.max").exists() else ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]
    try:
        quota, period = " ".join((cgroup / file).read_text() for file in files).split()
    except OSError:
        return inf
    return inf if quota in ("max", "-1") else max(1, ceil(int(quota) / int(period)))


def set_threads(n: int) -> None:
    """Let MXNet compute with `n` threads; raises RuntimeError once MXNet is loaded: it reads the number only then."""
    if "mxnet" in sys.modules:
        raise RuntimeError("set_threads() must come before the first `import mxnet`: MXNet reads the number only then")
    os.environ["OMP_NUM_THREADS"] = os.environ["MXNET_OMP_MAX_THREADS"] = str(n)


def num_threads() -> int:
    """The number of CPU threads MXNet computes with; raises InputError as `check_threads`."""
    check_threads()
    for name in _THREADS:
        if os.environ.get(name):
            return int(_first_number(os.environ[name]))
    # Nothing told MXNet: it was loaded before prepare(), and took half of the processors.
    return max(1, (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()) // 2)


def check_threads() -> None:
    """Raise InputError unless the environment's numbers of threads are ones that MXNet and the kernels can use.

    MXNet itself computes nothing with none, and ends the process at a text, or at more threads than the system has.
    """
    for name in _THREADS:
        text = os.environ.get(name)
        if text and not re.fullmatch("[0-9]{1,9}", _first_number(text)):
            raise InputError(f"the environment variable {name} is {text!r:.60}, no number of threads; unset it")
        if text and not 1 <= int(_first_number(text)) <= MOST_THREADS:
            raise InputError(
                f"the environment variable {name} is {text:.60}; it must be a number of threads from 1 to "
                f"{MOST_THREADS}, or unset"
            )


def _first_number(text: str) -> str:
    return text.split(",")[0].strip()  # OpenMP allows one for each level of nesting


# --- loading MXNet ----------------------------------------------------------------------------------------------------


class _BeforeMXNet:
    """A meta path finder that finds nothing: it prepares threads and CUDA when MXNet is looked for."""

    def find_spec(self, name, path=None, target=None):
        if name == "mxnet":
            check_threads()
            if sys.flags.optimize > 1:
                raise InputError("MXNet needs its docstrings, which python -OO and PYTHONOPTIMIZE=2 take away; use -O")
            for variable in _THREADS:  # MXNet reads one number, and ends the process at a list of them
                if os.environ.get(variable):
                    os.environ[variable] = _first_number(os.environ[variable])
            why = machine.why_no_wheel()
            if why and PathFinder.find_spec(name) is None:  # who has built MXNet himself has it
                raise ModuleNotFoundError(why, name=name)
            if importlib.util.find_spec("distutils") is None:
                # setuptools has it, and says so when Python starts: not in a notebook that has just installed it
                with suppress(ImportError):
                    import setuptools  # noqa: F401
            from gluon_lenet import libraries  # here, or `python -m gluon_lenet.libraries` finds itself imported

            libraries.load_cuda()


def why_no_mxnet() -> str | None:
    """One sentence on why `import mxnet` fails and what to do about it, or None if it works."""
    if why := machine.why_no_wheel():
        return why
    if importlib.util.find_spec("mxnet") is None:
        # MXNet's metadata demands numpy<2, which has no wheels for Python 3.13; compat makes it work with NumPy 2.
        options = " --no-deps" if sys.version_info >= (3, 13) else ""
        return f"MXNet is not installed: pip install{options} mxnet==1.9.1"
    try:
        import mxnet  # noqa: F401
    except Exception as error:
        if isinstance(error, ImportError) and str(error.name).startswith("distutils"):
            return "MXNet needs distutils, which left Python in 3.12 and lives on in setuptools: pip install setuptools"
        from gluon_lenet import libraries

        if missing := libraries.missing():
            way = "; without root: python -m gluon_lenet.libraries" if libraries.can_provide(missing) else ""
            return libraries.advice(missing) + way
        return f"MXNet does not load: {type(error).__name__}: {' '.join(str(error).split())}"
    return None
