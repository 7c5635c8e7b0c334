"""The LeNet chapter of 《动手学深度学习》 (d2l-zh v1, MXNet Gluon), running again.

`import gluon_lenet as d2l` has the names the chapter uses. The package's rooms, in the order of the data; each imports
only from those above it:

    errors fields atomic   what bad input raises; JSON -> typed objects; files written whole or not at all
    machine/               this computer: wheels, packages, cuda, libraries, nvidia
    compat/                MXNet 1.9.1 and d2lzh here: numpy_names, mxnet_patches, ipython_patches, threads
    devices                "gpu(1)" -> mx.Context
    data/                  bytes -> batches: idx, transports, augment, sampling, catalogue (a data set is one entry),
                           cache, datasets, transforms, batches; d2lzh_patch, the book's own package with these
    nets/                  layers, losses, zoo (the nets by name), table (a net as one), inspect (what happens inside),
                           weights (arrays <-> a net), pretrained (those of pretrained/, a file and a card a recipe)
    web/                   a page in which one draws and sees nets compute: sources, samples, describe, page, files; its
                           JavaScript is in client/
    viz/                   fonts, figures, architecture, films, windows, evidence, intervals, animator, drawings,
                           drawing_pad
    engines/               a batch -> gradients: base (what an engine promises), proof, reasons (why not the kernels),
                           autograd, choice; recorded, accelerated (the reader's own loop by the kernels)
      fused/               the CPU kernels: sizes, vectors, memory, tables; images, convolution, maxpool, subsampling,
                           dense, distances, activations, dropout, loss (each forward and backward), receptive, blocks,
                           rules; compiled, threads; reading, program, arrays, weights, updater, net, function, engine
    training/              settings and recipes -> metrics, config, checkpoint, run_dir; loop (batch, step, watcher),
                           chapter (train_ch5 and evaluate_accuracy), setup (what trains), run (a setup in a directory)
    distributed/           several processes that train one net: environment, gang (sums over workers), trainer, engine,
                           servers, worker (a setup in a gang); who starts and watches them: processes, messages, hosts,
                           agent (on each host), supervision (all as one), planning
    sweeps/                a recipe and values for its settings -> results: trials, space, measure, process, cluster,
                           results, run (all of them), report; `python -m gluon_lenet.sweeps` is one of its processes
    inference/             a run -> predictions: scores, trained; -> files for others: params_file, symbol_file,
                           onnx_file, onnx_nodes
      pictures/            a user's picture -> 28x28: resample, morphology, decode, ink, one_digit, fit, forms, folder

What a user types, and what those share:

    train evaluate predict demo export params summary sweep launch             `python -m gluon_lenet.NAME`
    accelerate doctor libraries fused
    data/__main__          `python -m gluon_lenet.data`
    cli options            types of arguments, errors and exit statuses; the arguments of a training
    console checkup        a run on a terminal; what doctor looks at

Importing the package gives MXNet and d2lzh back what NumPy and IPython have removed (compat/), and nothing more: MXNet
is loaded at the first use of a name that needs it.
"""

from contextlib import suppress
from importlib import import_module

__version__ = "0.1.0"

with suppress(ModuleNotFoundError):  # a dependency of compat is missing: doctor.py reports it, everything else fails
    from gluon_lenet import compat

    compat.prepare()

_HOMES = {
    "data.batches": ["Batches", "load_data", "load_data_fashion_mnist", "load_data_mnist"],
    "data.datasets": ["load_dataset", "load_training_set"],
    "devices": ["try_gpu", "try_all_gpus"],
    "nets.zoo": ["NETS", "get_net", "lenet"],
    "engines.accelerated": ["accelerate", "explain", "load_ipython_extension", "unload_ipython_extension"],
    "training.recipes": ["RECIPES", "get_recipe"],
    "training.loop": ["DivergedError"],
    "training.chapter": ["evaluate_accuracy", "evaluate_accuracy_gpu", "train_ch5", "train_ch6"],
    "training.metrics": ["Accumulator", "EpochResult", "Timer", "accuracy"],
    "nets.layers": ["PrintLayer", "Reshape", "WithLoss"],
    "viz.animator": ["Animator"],
    "viz.figures": ["get_fashion_mnist_labels", "show_fashion_mnist"],
    "data.d2lzh_patch": ["patch_d2lzh"],
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
