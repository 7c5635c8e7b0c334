"""Numbers of threads, empty values, closed, full or ASCII-only streams, and file names that are not valid text."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from conftest import ROOT, fails_as_bad_input, module_env, one_error_line
from gluon_lenet import evaluate, params, predict, summary, train
from gluon_lenet.compat import threads
from gluon_lenet.data import __main__ as data
from gluon_lenet.engines.fused import compiled
from gluon_lenet.engines.fused.net import FusedNet
from gluon_lenet.errors import InputError
from gluon_lenet.nets.zoo import lenet
from small_train import train_small

THREADS = ("OMP_NUM_THREADS", "MXNET_OMP_MAX_THREADS")


@pytest.fixture(scope="module", autouse=True)
def kernels():
    """The kernels, compiled before processes are started that would each compile them."""
    compiled.address()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of one short epoch."""
    return train_small(tmp_path_factory.mktemp("environment") / "run", "--recipe", "small_momentum", "--epochs", "1")


@pytest.fixture
def shell(tmp_path):
    """Run a shell command in an empty folder; $PYTHON is this Python."""

    def call(line, **extra):
        environment = module_env(PYTHON=sys.executable, **extra)
        environment.pop("PYTHONUNBUFFERED", None)
        return subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=170
        )

    return call


# --- threads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", THREADS)
@pytest.mark.parametrize("text", ["0", "-1", "abc", "1.5", "1000", "9999999999", "0,2", ",", "２"])
def test_numbers_of_threads_that_are_none(variable, text, monkeypatch, capsys):
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, text)
    commands = [
        (train, []),
        (evaluate, ["--run", "x"]),
        (predict, ["--run", "x", "a.png"]),
        (params, ["export", "a.params", "--run", "x"]),
        (summary, ["--net", "lenet5_1998"]),
        (data, ["verify"]),
    ]
    for command, args in commands:
        fails_as_bad_input(command.main, args, capsys, variable, text[:9])
    with pytest.raises(InputError, match=variable):
        threads.num_threads()
    with pytest.raises(InputError, match=variable):
        FusedNet(lenet())


@pytest.mark.parametrize("variable", THREADS)
@pytest.mark.parametrize("text", ["0", "abc"])
def test_mxnet_is_not_loaded_to_end_the_process(variable, text):
    """MXNet used to abort the process, with status 134 if the value is text."""
    environment = module_env(**{variable: text})
    for code in ("import gluon_lenet, mxnet", "import gluon_lenet; gluon_lenet.lenet()"):
        process = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert process.returncode == 1
        assert f"InputError: the environment variable {variable} is" in process.stderr.splitlines()[-1]


def test_mxnet_is_not_loaded_without_the_docstrings_it_is_made_of(run_module):
    environment = module_env(PYTHONOPTIMIZE="2")
    one_error_line(run_module("summary", "--net", "lenet5_1998", env=environment), "PYTHONOPTIMIZE=2")
    assert run_module("summary", "--net", "lenet5_1998", env=module_env(PYTHONOPTIMIZE="1")).returncode == 0


def test_a_list_of_numbers_of_threads_counts_by_its_first(run_module):
    """OpenMP allows a list, one number per nesting level; MXNet aborted the process on it."""
    code = (
        "import gluon_lenet, os, mxnet as mx; from gluon_lenet.compat import threads; "
        "print(threads.num_threads(), os.environ['OMP_NUM_THREADS'], mx.nd.ones((2,)).sum().asscalar())"
    )
    environment = module_env(OMP_NUM_THREADS=" 2 , 3")
    process = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert process.stdout == "2 2 2.0\n"


def test_an_empty_number_of_threads_is_none_at_all(monkeypatch):
    code = "from gluon_lenet.compat import threads; print(threads.num_threads(), threads.physical_cores())"
    environment = module_env(OMP_NUM_THREADS="", MXNET_OMP_MAX_THREADS="")
    process = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert len(set(process.stdout.split())) == 1


@pytest.mark.parametrize("threads", [0, -1, 257, 10**10])
def test_a_plan_for_no_number_of_threads_is_refused(threads):
    with pytest.raises(ValueError, match="threads must be from 1 to 256"):
        FusedNet(lenet(), threads=threads)


@pytest.mark.parametrize(
    "variables", [{"OMP_THREAD_LIMIT": "1"}, {"OMP_DYNAMIC": "true"}, {"OMP_NESTED": "true", "OMP_PLACES": "cores"}]
)
def test_the_kernels_compute_everything_however_few_threads_come(variables, capsys):
    code = (
        "import gluon_lenet, numpy as np, mxnet as mx; from gluon_lenet.engines.fused.net import FusedNet\n"
        "mx.random.seed(0); net = gluon_lenet.lenet(); net.initialize(mx.init.Xavier())\n"
        "images = np.random.default_rng(0).integers(0, 256, (200, 28, 28), np.uint8)\n"
        "fused = FusedNet(net, threads=4)\n"
        "print(fused.backprop(images, np.arange(200), np.arange(200) % 10), net[0].weight.grad().norm().asscalar())\n"
    )
    exec(code, {})  # with as many threads as it asks for
    process = subprocess.run(
        [sys.executable, "-c", code], env=module_env(**variables), capture_output=True, text=True, check=True
    )
    assert process.stdout == capsys.readouterr().out != ""


# --- values -----------------------------------------------------------------------------------------------------------

OPTIONS = [
    *((train, [name, ""]) for name in ("--recipe", "--ctx", "--backprop", "--run-dir", "--data-dir", "--resume")),
    *((evaluate, ["--run", "x", name, ""]) for name in ("--confusion", "--grid", "--data-dir", "--ctx")),
    (evaluate, ["--run", ""]),
    *((predict, ["--run", "x", "a.png", name, ""]) for name in ("--show", "--data-dir", "--ctx")),
    (predict, ["--run", "x", "a.png", ""]),
    (params, ["export", "", "--run", "x"]),
    (params, ["export", "a.params", "--run", ""]),
    (params, ["import", "a.params", "--recipe", ""]),
    (params, ["import", "a.params", "--recipe", "d2l_v1_fashion", "--run-dir", ""]),
    (summary, ["--net", ""]),
    (data, ["verify", ""]),
    (data, ["verify", "mnist", "--data-dir", ""]),
]


@pytest.mark.parametrize(("command", "args"), OPTIONS, ids=[" ".join(["-", *args]) for _, args in OPTIONS])
def test_the_empty_text_is_no_value(command, args, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = next(name for name in [args[args.index("") - 1], "images"] if name)
    fails_as_bad_input(command.main, args, capsys, "is empty", name.lstrip("-") if name.startswith("--") else "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("command", "args"), OPTIONS, ids=[" ".join(["-", *args]) for _, args in OPTIONS])
def test_a_nul_is_in_no_value(command, args, capsys, tmp_path, monkeypatch):
    """The system cannot pass one, but a call of `main` from Python can."""
    monkeypatch.chdir(tmp_path)
    fails_as_bad_input(command.main, [arg or "a\0b" for arg in args], capsys, "has a NUL character")
    assert list(tmp_path.iterdir()) == []


NUMBERS = [
    *((train, ["--epochs", text]) for text in ("0", "1_0", "+5", " 5", "５", "1e3", "1000001", "9" * 5000)),
    *((train, ["--threads", text]) for text in ("0", "257", "1000", "100000", "9999999999")),
    *((train, ["--lr", text]) for text in ("0", "-1", "nan", "inf", "1e309", "1_0", "0x1", "")),
    (train, ["--batch-size", "2147483648"]),
    (train, ["--num-gpus", "1000000000"]),
    (train, ["--seed", "-1"]),
    *((evaluate, ["--run", "x", "--rotate", text]) for text in ("0", "180.1", "1e308", "nan", "inf", "-5")),
    (evaluate, ["--run", "x", "--show", "1" + "0" * 30]),
    (predict, ["--run", "x", "--first", "99999999999999999999"]),
]


@pytest.mark.parametrize(("command", "args"), NUMBERS, ids=[" ".join(args)[:40] for _, args in NUMBERS])
def test_numbers_that_are_none_or_too_large(command, args, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fails_as_bad_input(command.main, args, capsys, args[-2])
    assert list(tmp_path.iterdir()) == []


# --- streams ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_lead_nowhere(closed, shell, tmp_path):
    code = (
        "import sys; from gluon_lenet import evaluate, summary\n"
        "shown, refused = summary.main(['--net', 'lenet5_1998']), evaluate.main(['--run', 'nosuch'])\n"
        "sys.exit(10 * shown + refused)"
    )
    done = shell(f'$PYTHON -c "$CODE" {closed}', CODE=code)
    assert done.returncode == 2
    assert ("total" in done.stdout) is (">&-" not in closed.split())
    assert len(done.stderr.splitlines()) == ("2>&-" not in closed)
    assert "nosuch" in done.stderr or "2>&-" in closed


def test_predictions_nobody_reads(run, shell):
    """A closed standard output caused a traceback."""
    done = shell(f"$PYTHON -m gluon_lenet.predict --run {run} --first 2 >&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_full_standard_output_is_an_error(run, shell):
    for command in ("summary --net lenet5_1998", "summary --help", f"predict --run {run} --first 2"):
        done = shell(f"$PYTHON -m gluon_lenet.{command} >/dev/full")
        assert done.returncode == 1
        assert done.stderr == "error: the standard output cannot be written: No space left on device\n"


def test_a_run_whose_output_is_full_says_how_to_resume(shell, tmp_path):
    done = shell("$PYTHON -m gluon_lenet.train --epochs 1 --run-dir run >/dev/full")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "the standard output cannot be written: No space left on device" in line
    assert line.endswith("continue with --resume run")
    assert sorted(os.listdir(tmp_path / "run")) == ["config.json", "last.safetensors"]


def test_errors_that_cannot_be_printed_are_still_statuses(shell):
    assert shell("$PYTHON -m gluon_lenet.evaluate --run nosuch 2>/dev/full").returncode == 2
    assert shell("$PYTHON -m gluon_lenet.train --epochs 0 2>/dev/full").returncode == 2


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-16"])
def test_names_of_any_letters_in_any_encoding(encoding, run, shell, tmp_path):
    (tmp_path / "数字.png").write_bytes(b"no picture")
    code = (
        "import sys; from gluon_lenet import predict, summary; run, name = sys.argv[1:]\n"
        "sys.exit(10 * predict.main(['--run', run, f'{name}.png']) + summary.main(['--net', name]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, run, "数字"], cwd=tmp_path, env=module_env(PYTHONIOENCODING=encoding),
        capture_output=True, timeout=170,
    )  # fmt: skip
    assert done.returncode == 12
    assert b"Traceback" not in done.stderr
    assert done.stderr.decode(encoding).count("error:") == 2


def test_a_run_directory_whose_name_is_no_text(shell, tmp_path):
    """It caused a UnicodeEncodeError, and left an empty folder."""
    code = (
        "import sys; from gluon_lenet import evaluate; from small_train import train_small\n"
        "sys.exit(evaluate.main(['--json', '--run', train_small(sys.argv[1], '--epochs', '1')]))"
    )
    path = f"{ROOT}:{ROOT / 'tests' / 'helpers'}"
    done = shell("$PYTHON -c \"$CODE\" $'u/\\xff'", CODE=code, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    name, numbers = done.stdout.splitlines()
    assert name == "u/\\udcff"
    assert json.loads(numbers)["run"] == "u/\udcff"
    assert os.listdir(os.fsencode(tmp_path / "u")) == [b"\xff"]


def test_a_data_folder_whose_name_is_no_text_is_refused_before_anything_is_made(shell, tmp_path):
    done = shell("$PYTHON -m gluon_lenet.train --data-dir $'u/\\xff' --run-dir run")
    one_error_line(done, r"u/\xff", "not valid text")
    assert list(tmp_path.iterdir()) == []


def test_streams_are_as_before_after_a_command_called_from_python(capsys):
    before = sys.stdout, sys.stdout.errors, sys.stderr.errors
    assert summary.main(["--net", "lenet5_1998"]) == 0
    assert (sys.stdout, sys.stdout.errors, sys.stderr.errors) == before
    assert np.isfinite(len(capsys.readouterr().out))


def test_leaving_does_what_is_registered_and_writes_what_is_buffered():
    code = "import atexit; from gluon_lenet import cli; atexit.register(print, 'registered'); print('1'); cli.leave(3)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, "1\nregistered\n", "")
