"""d2lzh, the book's own package -> d2lzh with working data and device helpers: the book's cells run as printed."""

import functools

import wrapt


@functools.cache
def patch_d2lzh() -> None:
    """Replace the functions of `d2lzh` that cannot work by ours, whether it is imported already or later.

    `load_data_fashion_mnist` downloads from a dead host: ours finds and verifies the files (data/cache.py).
    `try_gpu` and `try_all_gpus` return GPUs that cannot compute: ours test that a value can be read (devices.py).
    """
    wrapt.when_imported("d2lzh.utils")(_replace)
    wrapt.when_imported("d2lzh")(_replace)


def _replace(module):
    # Imported here: d2lzh, and with it MXNet, IPython and matplotlib, may never be imported.
    from gluon_lenet.data.batches import load_data_fashion_mnist
    from gluon_lenet.devices import try_all_gpus, try_gpu

    for function in (load_data_fashion_mnist, try_all_gpus, try_gpu):
        setattr(module, function.__name__, function)
