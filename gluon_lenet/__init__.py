"""The LeNet chapter of 《动手学深度学习》 (d2l-zh v1, MXNet Gluon), running again.

`import gluon_lenet as d2l` provides the names that the chapter uses. The package, in the order of the data:

    compat/              MXNet 1.9.1 and d2lzh on current Python, NumPy and IPython
    machine/             this computer: wheels, shared libraries, packages, GPUs
    errors.py            what bad input raises
    atomic.py            files written whole or not at all; only regular files are read
    fields.py            JSON -> objects of declared types
    devices.py           "gpu(1)" -> mx.Context
    data/                IDX files, fetched and verified -> uint8 arrays -> augmented, shuffled mini-batches
    nets/                layers and losses that stock Gluon lacks; the nets, by name
    engines/             a batch -> loss, correct count, gradients: by autograd or by the fused CPU kernels
    training/            recipes, the training loop, checkpoints, run directories; train_ch5, train_ch6
    inference/           a run's directory and images, or a user's pictures -> predictions
    viz/                 figures, with Chinese text
    console.py cli.py    what the command lines share
    checkup.py           this machine -> what the chapter needs: found or not, and what to type
    train.py evaluate.py predict.py params.py summary.py doctor.py fused.py libraries.py    command lines

Importing the package restores what current NumPy and IPython removed and MXNet and d2lzh need (compat/), and nothing
else: MXNet is loaded at the first use of a name that needs it.
"""

from contextlib import suppress
from importlib import import_module

__version__ = "0.1.0"

with suppress(ModuleNotFoundError):  # a dependency of compat is missing: doctor.py reports it, everything else fails
    from gluon_lenet import compat

    compat.prepare()

_HOMES = {
    "data.batches": ["Batches", "load_data", "load_data_fashion_mnist", "load_data_mnist"],
    "data.datasets": ["load_dataset"],
    "devices": ["try_gpu", "try_all_gpus"],
    "nets.zoo": ["NETS", "get_net", "lenet"],
    "training.recipes": ["RECIPES", "get_recipe"],
    "training.loop": ["DivergedError"],
    "training.chapter": ["evaluate_accuracy", "evaluate_accuracy_gpu", "train_ch5", "train_ch6"],
    "training.metrics": ["Accumulator", "EpochResult", "Timer", "accuracy"],
    "nets.layers": ["PrintLayer", "Reshape", "WithLoss"],
    "viz.animator": ["Animator"],
    "viz.figures": ["get_fashion_mnist_labels", "show_fashion_mnist"],
    "data.d2lzh_patch": ["load_ipython_extension", "patch_d2lzh"],
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str):
    """A public name; the module that defines it is imported on first use."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
