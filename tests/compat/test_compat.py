"""compat/ against the real NumPy, MXNet, d2lzh, IPython and kernel of whichever Python runs the tests."""

import json
import os
import platform
import re
import subprocess
import sys
import warnings

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from conftest import ROOT
from gluon_lenet import compat
from gluon_lenet.compat import mxnet_patches, numpy_names, threads
from gluon_lenet.errors import InputError

mx = pytest.importorskip("mxnet") if compat.why_no_mxnet() is None else pytest.fail(compat.why_no_mxnet())

NUMPY_2 = np.lib.NumpyVersion(np.__version__) >= "2.0.0"


def python(code: str, *options: str, **env: str) -> str:
    """What `code` prints in a new Python that finds gluon_lenet; no variable there sets a number of threads."""
    done = subprocess.run(
        [sys.executable, *options, "-c", code],
        env={name: value for name, value in os.environ.items() if not name.endswith(("OMP_MAX_THREADS", "NUM_THREADS"))}
        | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
        | env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# --- NumPy ------------------------------------------------------------------------------------------------------------


def test_import_adds_only_missing_names_to_numpy_and_imports_nothing_heavy():
    added = json.loads(
        python(
            "import json, sys, numpy\n"
            "before = {name: id(value) for name, value in vars(numpy).items()}\n"
            "import gluon_lenet\n"
            "after = {name: id(value) for name, value in vars(numpy).items()}\n"
            "assert {name: after[name] for name in before} == before, 'a name of NumPy was changed'\n"
            "assert not {'mxnet', 'matplotlib', 'IPython', 'd2lzh'} & set(sys.modules)\n"
            "new = after.keys() - before.keys()\n"
            "print(json.dumps({name: getattr(vars(numpy)[name], '__module__', None) for name in new}))",
            "-Werror",
        )
    )
    assert added
    assert added.keys() <= numpy_names.missing_names().keys()
    # NumPy 1.26 provides some names only on access (functions that raise); those must stay NumPy's own, not ours.
    given = "{name: getattr(numpy, name).__module__ for name in names if hasattr(numpy, name)}"
    code = f"import json, numpy\nnames = {list(added)}\nprint(json.dumps({given}))"
    assert json.loads(python(code, "-Wignore")).items() <= added.items()


MEANINGS = [
    ("in1d", ([[1, 2], [3, 4]], [2, 4]), {}, [False, True, False, True]),
    ("in1d", ([1, 2], [2]), {"invert": True}, [True, False]),
    ("msort", ([[3, 1], [2, 4]],), {}, [[2, 1], [3, 4]]),
    ("trapz", ([1, 2, 3],), {}, 4.0),
    ("row_stack", (([1, 2], [3, 4]),), {}, [[1, 2], [3, 4]]),
    ("product", ([2, 3],), {}, 6),
    ("cumproduct", ([2, 3],), {}, [2, 6]),
    ("alltrue", ([1, 0],), {}, False),
    ("sometrue", ([1, 0],), {}, True),
    ("round_", (1.26, 1), {}, 1.3),
    ("asfarray", ([1, 2],), {}, [1.0, 2.0]),
]


@pytest.mark.parametrize(("name", "args", "kwargs", "result"), MEANINGS)
def test_a_name_put_back_means_what_it_meant(name, args, kwargs, result):
    assert np.asarray(numpy_names.missing_names()[name](*args, **kwargs)).tolist() == result


@pytest.mark.parametrize(
    ("given", "dtype", "result"),
    [([1], "f8", "f8"), ([1], "f4", "f4"), ([1], "i4", "f8"), (np.float32([1]), "f4", "f4"), ([1], "c8", "c8")],
)
def test_asfarray_makes_floats(given, dtype, result):
    assert numpy_names.asfarray(given, dtype).dtype == result


@pytest.mark.parametrize(
    ("arrays", "scalars", "result"),
    [
        (["f4"], ["i8", "f8"], "f4"),  # scalars of the same or a lower kind do not count
        (["f4"], ["c16"], "c16"),
        (["i4", "f4"], [], "f8"),
        ([], ["i8", "f4", "c16"], "c16"),
        (["f4", "f4", "i4"], ["c8"], "c16"),
        (["i8"], ["?"], "i8"),
    ],
)
def test_find_common_type(arrays, scalars, result):
    assert numpy_names.find_common_type(arrays, scalars) == result


def test_the_pythons_of_pyproject_are_the_ones_everywhere():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    oldest, above = re.search(r'^requires-python = ">=3\.(\d+),<3\.(\d+)"', project, re.MULTILINE).groups()
    assert ((3, int(oldest)), (3, int(above) - 1)) == compat.wheels.PYTHONS
    complete = re.findall(r'"Programming Language :: Python :: 3\.(\d+)"', project)
    assert list(map(int, complete)) == list(range(int(oldest), int(complete[-1]) + 1))
    for readme in ("README.md", "README.zh-CN.md"):
        text = (ROOT / readme).read_text(encoding="utf-8")
        assert f"no usable Python 3.{oldest} to 3.{int(above) - 1} found" in text
        assert f"3.{complete[-1]}" in text


def test_functions_of_numpy_financial_say_so():
    with pytest.raises(NotImplementedError, match="numpy-financial"):
        numpy_names.missing_names()["npv"](0.1, [1, 2])


# --- MXNet ------------------------------------------------------------------------------------------------------------


def shape(*sizes: int) -> tuple:
    """A shape as NumPy code computes it: of np.int64."""
    return tuple(np.array(sizes))


def constant_of_numpy_shape():
    return json.loads(mx.init.Constant(mx.nd.ones(shape(1, 2))).dumps())


def split_np_array():
    with mx.util.np_array(True):
        return [x.shape for x in mx.gluon.utils.split_data(mx.np.ones((7, 3)), 2, even_split=False)]


def conv_layer():
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Conv2D(np.int64(6), kernel_size=shape(5, 5)), mx.gluon.nn.Dense(np.int64(10)))
    net.initialize()
    net.hybridize()
    return net(mx.nd.ones((2, 1, 28, 28))).shape


def symbol_shape():
    return mx.sym.FullyConnected(mx.sym.var("x", shape=shape(2, 3)), num_hidden=np.int64(4)).infer_shape()[1]


def bound_symbol():
    symbol = mx.sym.sum(mx.sym.reshape(mx.sym.var("x"), shape=shape(3, 2)), axis=(np.int64(0),))
    return symbol.eval(x=mx.nd.arange(6))[0].asnumpy().tolist()


def packed_record():
    record = mx.recordio.pack(mx.recordio.IRHeader(0, [1.0, 2.0], 7, 0), b"image")
    header, body = mx.recordio.unpack(record)
    return header.label.tolist(), header.id, body


def summed_metric():
    metric = mx.metric.np(lambda label, pred: pred.sum())
    metric.sum_metric = 2.0**24  # in float32, 2**24 + 1 == 2**24
    for _ in range(4):
        metric.update([mx.nd.ones((1,))], [mx.nd.ones((1,))])
    return metric.sum_metric - 2**24


def summed_scalars():
    total = 2.0**24
    for _ in range(4):
        total += mx.nd.ones((1,)).asscalar()
    return total - 2**24


MENDS = {
    "nd, shape": (lambda: mx.nd.zeros(shape(4, 6)).reshape(shape(3, 8)).shape, (3, 8)),
    "nd, axes": (lambda: mx.nd.ones((2, 3, 4)).sum(axis=shape(0, 2)).shape, (3,)),
    "nd, slice": (lambda: mx.nd.zeros((4, 6)).slice(begin=(np.int64(1), None), end=shape(2, 3)).shape, (1, 3)),
    "nd, list in list": (
        lambda: mx.nd.ones((1, 1, 2, 2)).pad("constant", shape(0, 0, 0, 0, 1, 1, 1, 1)).shape[2:],
        (4, 4),
    ),
    "nd, floats": (
        lambda: mx.nd.contrib.MultiBoxPrior(mx.nd.zeros((1, 3, 4, 4)), sizes=[np.float32(0.5)]).shape,
        (1, 16, 4),
    ),
    "np, shape": (lambda: mx.np.zeros(shape(2, 3)).transpose(shape(1, 0)).shape, (3, 2)),
    "np, random size": (lambda: mx.np.random.normal(0, 1, size=np.int64(2)).shape, (2,)),
    "np, pad": (lambda: mx.np.pad(mx.np.ones((1, 2)), ((1, 1), (0, 0))).shape, (3, 2)),
    "sym, shape of a variable": (symbol_shape, [(2, 4)]),
    "sym, parameters": (bound_symbol, [6.0, 9.0]),
    "gluon, sizes of layers": (conv_layer, (2, 10)),
    "gluon, split_data of mx.np": (split_np_array, [(4, 3), (3, 3)]),
    "initializer's dump": (constant_of_numpy_shape, ["constant", {"value": [[1.0, 1.0]]}]),
    "isinstance(x, str) in symbol.py": (lambda: mx.sym.var("x").optimize_for("MKLDNN").name, "x"),
    "record file": (packed_record, ([1.0, 2.0], 7, b"image")),
    "sum of asscalar()": (summed_scalars, 4.0),
    "sum of a metric": (summed_metric, 4.0),
    "moveaxis": (lambda: mx.nd.moveaxis(mx.nd.zeros((2, 3, 4)), 0, 2).shape, (3, 4, 2)),
}


@pytest.mark.parametrize("name", MENDS)
def test_mxnet_on_this_numpy(name):
    compute, result = MENDS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error" if NUMPY_2 else "ignore")  # NumPy 1.25 and 1.26 warn of what NumPy 2 removed
        assert compute() == result


def test_asscalar_is_a_scalar_of_numpy_that_computes_as_in_numpy_1():
    x = mx.nd.array([0.1]).asscalar()
    assert x.dtype == np.float32
    assert isinstance(x, np.float32)
    assert (repr(x), str(x), "%f" % x, "%d" % x) == ("0.1", "0.1", "0.100000", "0")  # noqa: UP031 - the book's way
    assert x != 0.1  # the nearest float32 is another number
    assert x + 0.5 == 0.5 + x == np.float64(np.float32(0.1)) + 0.5
    assert (hash(x), abs(-x), x.item()) == (hash(np.float32(0.1)), x, float(np.float32(0.1)))
    for beside in (1, 0.5, np.float64(1)):
        for result in (x + beside, beside - x, x / beside, beside**x):
            assert result.dtype == np.float64
    for result in (x + x, -x, np.float32(1) - x, x * np.ones(2, np.float32), (x + x) * x):
        assert result.dtype == np.float32
    assert ((x + x) * 0.5).dtype == np.float64
    assert type(x) is type(mx.nd.array([2]).asscalar())


@pytest.mark.parametrize("dtype", ["float16", "float64", "uint8", "int8", "int32", "int64"])
def test_asscalar_of_any_dtype(dtype):
    x = mx.nd.array([200 if dtype == "uint8" else 100], dtype=dtype).asscalar()
    assert x.dtype == dtype
    assert x + 200 == 200 + x == int(x) + 200  # a uint8 and an int8 would overflow
    assert (x + 1).dtype == ("float64" if "float" in dtype else "int64")


def test_negative_log_likelihood_is_what_asscalar_gives():
    metric = mx.metric.create("nll_loss")
    chances = mx.nd.array([[0.2, 0.3, 0.5], [0.6, 0.1, 0.3]])
    metric.update([mx.nd.array([2, 1])], [chances])
    expected = -(np.log(chances[0][2].asscalar()) + np.log(chances[1][1].asscalar())) / 2
    assert metric.get()[1] == expected


def test_accuracy_is_the_quotient_python_computes():
    metric = mx.metric.Accuracy()
    metric.update([mx.nd.array([0, 1, 1])], [mx.nd.array([[0.3, 0.7], [0, 1], [0.4, 0.6]])])
    correct = (np.argmax(mx.nd.array([[0.3, 0.7], [0, 1], [0.4, 0.6]]), axis=1) == mx.nd.array([0, 1, 1])).sum()
    assert metric.get()[1] == correct.asscalar() / 3 == 2 / 3


# --- IPython and d2lzh ------------------------------------------------------------------------------------------------

PLOTS = [
    "import gluon_lenet, d2lzh as d2l\nfrom mxnet import nd\nd2l.use_svg_display()",
    "d2l.set_figsize((4, 3))\nd2l.plt.plot([1, 2])\nd2l.plt.show()",
    "d2l.semilogy([1, 2], [3, 4], 'x', 'y', [1, 2], [4, 5], ['a', 'b'])",
    "d2l.show_fashion_mnist(nd.ones((2, 28, 28, 1)), d2l.get_fashion_mnist_labels([0, 9]))",
]


def test_plots_of_d2lzh_in_a_kernel_are_svg(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("MPLBACKEND", raising=False)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in PLOTS])
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()
    figures = [[output for output in cell.outputs if output.output_type == "display_data"] for cell in notebook.cells]
    assert [["image/svg+xml" in output.data for output in outputs] for outputs in figures] == [
        [],
        [True],
        [True],
        [True],
    ]


def test_plots_of_d2lzh_in_a_script(tmp_path):
    python("\n".join(PLOTS), IPYTHONDIR=str(tmp_path))


# --- threads ----------------------------------------------------------------------------------------------------------


def test_mxnet_computes_on_all_cores_or_with_as_many_threads_as_set():
    code = (
        "import os\nfrom gluon_lenet.compat import threads\n{}\nimport mxnet as mx\n"
        "mx.nd.Convolution(mx.nd.ones((8, 4, 32, 32)), mx.nd.ones((8, 4, 5, 5)), mx.nd.ones(8), kernel=(5, 5),"
        " num_filter=8).wait_to_read()\n"
        "print(threads.num_threads(), len(os.listdir('/proc/self/task')))"
    )
    cores = threads.physical_cores()
    num_threads, tasks = map(int, python(code.format("")).split())
    more_threads, more_tasks = map(int, python(code.format(f"threads.set_threads({cores + 3})")).split())
    assert (num_threads, more_threads) == (cores, cores + 3)
    assert more_tasks - tasks == 3  # one task per thread


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MXNET_OMP_MAX_THREADS"])
def test_threads_in_the_environment_stay(name):
    assert python("from gluon_lenet.compat import threads\nprint(threads.num_threads())", **{name: "7"}) == "7"


def test_threads_cannot_be_set_once_mxnet_is_loaded():
    with pytest.raises(RuntimeError, match="before the first `import mxnet`"):
        threads.set_threads(1)


def test_only_processors_this_process_may_use_count():
    code = "import os\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\nimport gluon_lenet\n"
    assert (
        python(code + "print(gluon_lenet.compat.threads.physical_cores(), os.environ['MXNET_OMP_MAX_THREADS'])")
        == "1 1"
    )


def test_hyperthreads_of_a_core_count_once(tmp_path):
    for cpu, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        topology = tmp_path / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(siblings)
    assert threads._cores({0, 1, 2, 3}, tmp_path) == 2
    assert threads._cores({0, 2}, tmp_path) == 1
    assert threads._cores({0, 1, 2, 3, 4}, tmp_path) == 5  # cpu4 is not described: trust the affinity


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"cpu.max": "max 100000\n"}, np.inf),
        ({"cpu.max": "250000 100000\n"}, 3),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, np.inf),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
        ({}, np.inf),
    ],
)
def test_limit_of_a_container(files, limit, tmp_path):
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert threads._container_limit(tmp_path) == limit


# --- loading MXNet ----------------------------------------------------------------------------------------------------


def test_missing_distutils_is_named():
    block = "import sys\nsys.modules.update(distutils=None, setuptools=None)\n"
    code = f"{block}from gluon_lenet import compat\nprint(compat.why_no_mxnet())"
    assert python(code).endswith("pip install setuptools")


def test_setuptools_that_came_after_python_started_is_enough():
    """As in a notebook whose first cell installs everything: from Python 3.12 on, distutils is setuptools' own."""
    code = (
        "import sys\nsys.meta_path = [f for f in sys.meta_path if type(f).__name__ != 'DistutilsMetaFinder']\n"
        "import gluon_lenet, mxnet\nprint(mxnet.nd.ones((2,)).sum().asscalar())"
    )
    assert python(code).endswith("2.0")


@pytest.mark.parametrize(
    ("where", "name", "value", "answer"),
    [
        (compat.wheels.platform, "machine", lambda: "riscv64", "macOS on x86-64 only, and this is Linux on riscv64"),
        (compat.wheels.platform, "system", lambda: "Windows", "MXNet has no wheel for Windows"),
        (compat.sys, "maxsize", 2**31 - 1, f"this is one of 32 bits on {platform.machine()}"),
        (compat.sys, "version_info", (3, 9, 0), "Python 3.10 to 3.15"),
        (compat.sys, "version_info", (3, 16, 0), "Python 3.10 to 3.15"),
        (compat.importlib.util, "find_spec", lambda name: None, "mxnet==1.9.1"),
    ],
)
def test_what_keeps_mxnet_away_is_one_sentence(where, name, value, answer, monkeypatch):
    monkeypatch.setattr(where, name, value)
    assert answer in compat.why_no_mxnet()


def test_a_store_that_needs_ps_lite_says_where_there_is_one():
    """Simulated, except on aarch64, whose wheel has no ps-lite."""
    create = whole = mx.kv.create
    if mx.runtime.Features().is_enabled("DIST_KVSTORE"):

        def create_without(name="local"):
            if name.startswith("dist"):
                raise mx.base.MXNetError("compile with USE_DIST_KVSTORE=1 to use dist_sync")
            return whole(name)

        create = mxnet_patches._without_ps_lite(create_without, mx.base.MXNetError)
    assert create("device").type == "device"
    with pytest.raises(InputError, match=r"kvstore 'dist_sync' needs ps-lite, .* wheel for Linux on x86-64 has it"):
        create("dist_sync")


def test_any_other_failure_of_mxnet_is_passed_on():
    code = "import sys\nsys.modules['mxnet.base'] = None\nfrom gluon_lenet import compat\nprint(compat.why_no_mxnet())"
    assert python(code).startswith("MXNet does not load: ModuleNotFoundError: ")
