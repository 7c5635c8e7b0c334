"""MXNet 1.9.1 on today's NumPy, Python and IPython: the only file that knows versions."""

import builtins
import ctypes
import functools
import importlib.util
import os
import platform
import sys
from pathlib import Path

import numpy as np
import wrapt

__all__ = ["physical_cores", "prepare", "set_threads", "why_no_mxnet"]


@functools.cache
def prepare() -> None:
    """Make `import mxnet` and `import d2lzh` work in this process; imports neither, and changes no name NumPy has."""
    for name, value in numpy_names().items():
        if name not in vars(np):  # not hasattr(): NumPy 1.24-1.26 warns when asked for a name it dropped
            setattr(np, name, value)
    sys.meta_path.insert(0, _BeforeMXNet())
    wrapt.when_imported("mxnet")(_mend_mxnet)
    wrapt.when_imported("IPython.display")(_mend_ipython)
    if "OMP_NUM_THREADS" not in os.environ and "mxnet" not in sys.modules:
        # MXNet takes half of the logical processors by default, however they are divided into cores.
        os.environ.setdefault("MXNET_OMP_MAX_THREADS", str(physical_cores()))


# --- NumPy ------------------------------------------------------------------------------------------------------------


def numpy_names() -> dict:
    """The names that MXNet 1.9.1 and d2lzh take from `numpy` and that some NumPy since 1.24 lacks, by their old meaning."""
    nan, inf = float("nan"), float("inf")
    names = {name: getattr(builtins, name) for name in ("bool", "int", "float", "complex", "object", "str")}
    names |= {"PZERO": 0.0, "NZERO": -0.0, "NAN": nan, "NaN": nan}
    names |= {"PINF": inf, "NINF": -inf, "Inf": inf, "Infinity": inf, "infty": inf}
    names |= {"float_": np.float64, "int0": np.intp, "string_": np.bytes_, "unicode_": np.str_}
    names |= {"product": np.prod, "cumproduct": np.cumprod, "alltrue": np.all, "sometrue": np.any, "round_": np.round}
    names |= {"row_stack": np.vstack, "trapz": vars(np).get("trapezoid") or vars(np).get("trapz")}
    names |= {function.__name__: function for function in (in1d, msort, asfarray, find_common_type)}
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
    # NumPy 2 prints the elements of a list as np.int64(3), and MXNet hands parameters to its C core as text: the two
    # modules that do so get a `str` of their own, which writes NumPy's numbers as numbers (NumPy >= 2.0).
    mxnet._ctypes.ndarray.str = mxnet._ctypes.symbol.str = _parameter_text


def _parameter_text(value) -> str:
    return str(_plain(value))


def _plain(value):
    if isinstance(value, (tuple, list)):
        return type(value)(map(_plain, value)) if type(value) in (tuple, list) else tuple(map(_plain, value))
    return value.item() if isinstance(value, np.generic) else value


# --- IPython ----------------------------------------------------------------------------------------------------------


def _mend_ipython(display):
    """Give IPython.display back `set_matplotlib_formats`, which d2lzh calls and IPython 9 removed."""
    if "set_matplotlib_formats" not in vars(display):
        display.set_matplotlib_formats = set_matplotlib_formats


def set_matplotlib_formats(*formats, **kwargs):
    """`IPython.display.set_matplotlib_formats`, gone in IPython 9: the formats of a notebook's figures."""
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    set_matplotlib_formats(*formats, **kwargs)


# --- threads ----------------------------------------------------------------------------------------------------------


def physical_cores() -> int:
    """The number of physical cores this process may run on: hyperthreads of one core count once."""
    if not hasattr(os, "sched_getaffinity"):  # macOS on Intel: two hyperthreads a core on nearly every Mac
        return max(1, os.cpu_count() // 2)
    usable = os.sched_getaffinity(0)
    try:
        topology = Path("/sys/devices/system/cpu")
        return len({(topology / f"cpu{cpu}/topology/thread_siblings_list").read_text() for cpu in usable})
    except OSError:  # some sandboxes hide /sys
        return len(usable)


def set_threads(n: int) -> None:
    """Let MXNet compute with `n` threads; raises RuntimeError once MXNet is loaded, since it has read the number then."""
    if "mxnet" in sys.modules:
        raise RuntimeError("set_threads() must come before the first `import mxnet`: MXNet reads the number only then")
    os.environ["OMP_NUM_THREADS"] = os.environ["MXNET_OMP_MAX_THREADS"] = str(n)


def num_threads() -> int:
    """The number of threads MXNet computes with, as its environment variables say."""
    text = os.environ.get("MXNET_OMP_MAX_THREADS") or os.environ.get("OMP_NUM_THREADS", "")
    return int(text) if text.isdigit() else physical_cores()


# --- shared libraries and their errors --------------------------------------------------------------------------------


class _BeforeMXNet:
    """A meta path finder that finds nothing: it loads the libraries MXNet links, the moment MXNet is looked for."""

    def find_spec(self, name, path=None, target=None):
        if name == "mxnet":
            _preload()


def _preload():
    """Load libgomp from the environment, and CUDA 11 from PyPI's nvidia-*-cu11: the loader then takes these by soname."""
    libraries = list(Path(sys.prefix, "lib").glob("libgomp.so.1"))
    for site in map(Path, sys.path):
        if any(site.glob("mxnet_cu*.dist-info")):
            libraries += site.glob("nvidia/*/lib/*.so*")
    while libraries:  # in rounds, as they need one another
        missing = [library for library in libraries if not _loads(library)]
        if len(missing) == len(libraries):
            return  # what cannot be loaded, MXNet will name
        libraries = missing


def _loads(library) -> bool:
    try:
        ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True


def why_no_mxnet() -> str | None:
    """One sentence on why `import mxnet` fails and what to do about it, or None if it works."""
    system, machine, python = platform.system(), platform.machine(), sys.version_info[:2]
    if (system, machine) not in (("Linux", "x86_64"), ("Darwin", "x86_64")):
        return f"MXNet has wheels for Linux and macOS on x86-64 only, and this is {system} on {machine}"
    if not (3, 10) <= python <= (3, 13):
        return f"gluon_lenet runs MXNet on Python 3.10 to 3.13, and this is {platform.python_version()}"
    if importlib.util.find_spec("mxnet") is None:
        # MXNet's metadata demands numpy<2, which has no wheels for Python 3.13; compat makes it work with NumPy 2.
        options = " --no-deps" if python >= (3, 13) else ""
        return f"MXNet is not installed: pip install{options} mxnet==1.9.1"
    try:
        import mxnet  # noqa: F401
    except Exception as error:
        if getattr(error, "name", None) == "distutils":
            return "MXNet needs setuptools, which brings distutils back to Python 3.12 and later: pip install setuptools"
        if "libgomp.so.1" in str(error):
            return "MXNet needs the system's libgomp.so.1: apt install libgomp1, or dnf install libgomp"
        return f"MXNet does not load: {type(error).__name__}: {' '.join(str(error).split())}"
    return None
