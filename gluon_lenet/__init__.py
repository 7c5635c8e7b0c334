"""The LeNet chapter of 《动手学深度学习》 (d2l-zh v1, MXNet Gluon), running again.

`import gluon_lenet as d2l` has the names the chapter uses. The way through the package, file by file:

    compat.py            MXNet 1.9.1 and d2lzh on today's Python, NumPy and IPython
    machine.py           why there is no MXNet for some machines and Pythons
    libraries.py         what MXNet's shared objects need: linked, fetched or named
    packages.py          files of apt's and npm's packages, without root
    errors.py            what bad input raises
    atomic.py            files written whole or not at all; files read that are files
    fields.py            JSON -> objects of declared types
    data/sources.py      where the IDX files come from, and their SHA-256
    data/idx.py          IDX bytes <-> uint8 arrays
    data/datasets.py     a name -> train and test arrays, class names
    data/transforms.py   uint8 images -> float32 batches
    data/batches.py      arrays -> shuffled mini-batches
    nvidia.py            NVIDIA's driver -> its GPUs, and whether MXNet's wheel has code for them
    devices.py           "gpu(1)" -> mx.Context
    layers.py losses.py  what stock Gluon lacks
    nets.py              the nets, by name
    proof.py             do a net's blocks compute what their types say, and has the net changed since
    fused/               the fused CPU kernels
    backprop.py          a batch -> loss, correct count, gradients: by autograd or the kernels
    metrics.py           where a run stands, what an epoch measured; sums, stopwatch
    fonts/               Chinese in figures
    plots.py summary.py  figures; a net as a table
    inside.py            the output and the gradient of each layer
    training.py          evaluate_accuracy, train_ch5, train_ch6 and the loop they share
    recipes.py           the recipes side by side
    config.py            config.json and the headers of checkpoints
    run_dir.py           a run's directory
    checkpoint.py        a net and its trainer <-> one verified file
    params_file.py       a net <-> Gluon's own .params file
    runs.py              a recipe -> a trained net and its run directory
    drawings.py          a user's picture -> a 28x28 drawing as in MNIST
    trained.py           a run's directory -> the trained net with its preprocessing
    book.py              d2lzh, the book's own package, mended
    checkup.py           this machine -> what the chapter needs: found or not, and what to type
    cli.py doctor.py train.py evaluate.py predict.py params.py summary.py    command lines

Importing the package puts back what today's NumPy and IPython took from MXNet and d2lzh (compat.py) and nothing more:
MXNet is loaded at the first use of a name that needs it.
"""

from contextlib import suppress
from importlib import import_module

__version__ = "0.1.0"

with suppress(ModuleNotFoundError):  # what compat.py needs is not installed: doctor.py says so, all else fails there
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
    """A public name, from the module that defines it, which is imported only now."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
