"""MXNet 1.9.1 on current NumPy, Python, IPython and machines: only this folder depends on versions."""

import functools
import importlib.util
import sys
import warnings
from contextlib import suppress
from importlib.machinery import PathFinder

import numpy as np
import wrapt

from gluon_lenet.compat import numpy_names, threads
from gluon_lenet.compat.ipython_patches import patch_display
from gluon_lenet.compat.mxnet_patches import patch_mxnet
from gluon_lenet.errors import InputError
from gluon_lenet.machine import cuda, wheels


@functools.cache
def prepare() -> None:
    """Make `import mxnet` and `import d2lzh` work in this process; imports neither, changes no name that NumPy has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, value in numpy_names.missing_names().items():
            if name not in vars(np):  # names that NumPy still provides on access, with a warning, are kept
                setattr(np, name, getattr(np, name, value))
    sys.meta_path.insert(0, _BeforeMXNet())
    wrapt.when_imported("mxnet")(patch_mxnet)
    wrapt.when_imported("IPython.display")(patch_display)
    threads.set_default()


class _BeforeMXNet:
    """A meta path finder that finds nothing, but prepares threads and CUDA just before MXNet is imported."""

    def find_spec(self, name, path=None, target=None):
        if name == "mxnet":
            threads.check_threads()
            if sys.flags.optimize > 1:
                raise InputError("MXNet needs its docstrings, which python -OO and PYTHONOPTIMIZE=2 take away; use -O")
            threads.keep_first_numbers()
            why = wheels.why_no_wheel()
            if why and PathFinder.find_spec(name) is None:  # MXNet may have been built from source
                raise ModuleNotFoundError(why, name=name)
            if importlib.util.find_spec("distutils") is None:
                # setuptools provides it from the start of Python on, but not if it was installed in this very session
                with suppress(ImportError):
                    import setuptools  # noqa: F401
            cuda.load()


def why_no_mxnet() -> str | None:
    """One sentence on why `import mxnet` fails and what to do about it, or None if it works."""
    if why := wheels.why_no_wheel():
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
        from gluon_lenet.machine import libraries  # imported here: only this rare case needs it

        if missing := libraries.missing():
            way = "; without root: python -m gluon_lenet.libraries" if libraries.can_provide(missing) else ""
            return libraries.advice(missing) + way
        return f"MXNet does not load: {type(error).__name__}: {' '.join(str(error).split())}"
    return None
