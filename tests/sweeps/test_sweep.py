"""The command line, its processes and its files: what is run, written, gone past and run again."""

import json
import os
import resource
import signal
import subprocess
import sys
import time

import msgspec
import pytest

from conftest import fails_as_bad_input, module_env, one_error_line
from gluon_lenet import sweep
from gluon_lenet.errors import DiskError, InputError
from gluon_lenet.sweeps import report
from gluon_lenet.sweeps.results import ResultsFile
from gluon_lenet.sweeps.run import Options
from gluon_lenet.sweeps.run import sweep as run_all
from gluon_lenet.sweeps.trials import Result
from gluon_lenet.training.metrics import EpochResult
from gluon_lenet.training.run_dir import RunDir

FAST = ["--set", "num_train=2000", "--set", "num_epochs=1", "--set", "batch_size=50"]


def result(key, score=0.5, **fields):
    history = [] if "error" in fields else [EpochResult(1, 1.0, 0.4, score, 1.0, 0.1)]
    fields = {"changes": {"lr": 0.1}, "seconds": 2.0, "num_parameters": 44426, **fields}
    return Result(key=key, name="d2l_v1_fashion", seed=0, threads=1, history=history, **fields)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep of three settings, one of which fails, from the command line."""
    folder = tmp_path_factory.mktemp("swept")
    args = ["-m", "gluon_lenet.sweep", *FAST, "--set", "net.kernel_size=3,5,11", "--keep", "--jobs", "2"]
    process = subprocess.run(
        [sys.executable, *args], capture_output=True, text=True, cwd=folder, env=module_env(), timeout=170
    )
    return process, folder / "sweeps" / "d2l_v1_fashion"


def test_what_is_printed_and_written(swept):
    process, folder = swept
    assert process.returncode == 1, process.stderr
    assert process.stderr == "1 of 3 runs failed; --retry repeats them\n"
    out = process.stdout.splitlines()
    assert out[0] == "3 runs"
    head, *rows = (line.split() for line in out[-4:])
    assert head == ["net.kernel_size", "runs", "test", "accuracy", "parameters", "seconds", "failed"]
    assert [row[:2] for row in rows] == [["3", "1"], ["5", "1"], ["11", "0"]]
    assert rows[1][3] == "44,426"
    assert "kernel size exceed input" in out[-1] or "1: " in out[-1]
    assert (folder / "table.txt").read_text().splitlines() == out[-4:]
    results = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert sorted(r["changes"]["net.kernel_size"] for r in results) == [3, 5, 11]
    assert {r["changes"]["net.kernel_size"] for r in results if "error" in r} == {11}
    assert (folder / "plot.png").stat().st_size > 10_000


def test_a_kept_run_is_a_run_like_any_other(swept):
    _, folder = swept
    with ResultsFile(folder) as file:
        results = file.by_key
    (key,) = [key for key, r in results.items() if r.changes["net.kernel_size"] == 3]
    config = RunDir(folder / "runs" / key).read_config()
    assert (config.settings.variant.kernel_size, config.threads) == (3, 1)
    history = [json.loads(line) for line in (folder / "runs" / key / "metrics.jsonl").read_text().splitlines()]
    assert history == [json.loads(epoch.to_json()) for epoch in results[key].history]
    assert results[key].printed.splitlines()[-1].endswith(str(folder / "runs" / key))


def test_a_finished_run_is_never_repeated(swept, monkeypatch):
    _, folder = swept
    monkeypatch.chdir(folder.parents[1])
    before = (folder / "results.jsonl").read_bytes()
    assert sweep.main([*FAST, "--set", "net.kernel_size=3,5,11", "--quiet"]) == 1
    assert (folder / "results.jsonl").read_bytes() == before


def test_a_line_that_was_cut_off_is_written_again(tmp_path):
    with ResultsFile(tmp_path) as file:
        file.append(result("a"))
        file.append(result("b"))
        whole = file.path.read_bytes()
    file.path.write_bytes(whole[:-20])
    with ResultsFile(tmp_path) as file:
        assert set(file.by_key) == {"a"}
        file.append(result("b"))
    assert file.path.read_bytes() == whole


def test_a_full_disk_leaves_whole_lines(tmp_path):
    """A limit on the size of files, as a full disk: what was written before stays, of the rest nothing."""
    with ResultsFile(tmp_path) as file:
        file.append(result("a"))
        whole = file.path.read_bytes()
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 50, limit[1]))
        try:
            with pytest.raises(DiskError, match=r"results\.jsonl cannot be written: File too large"):
                file.append(result("b"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert file.path.read_bytes() == whole


def test_a_result_without_results_is_named(tmp_path):
    (tmp_path / "results.jsonl").write_text('{"key": "k", "name": "n", "changes": {}, "seed": 0, "threads": 1}\n')
    with pytest.raises(InputError, match="line 1: there is neither a history nor an error"):
        ResultsFile(tmp_path)


def test_a_damaged_line_is_named(tmp_path):
    (tmp_path / "results.jsonl").write_text('{"key": 1}\n')
    with pytest.raises(InputError, match=r"results.jsonl, line 1: key must be a text, not 1"):
        ResultsFile(tmp_path)


def test_only_one_sweep_writes_to_a_folder(tmp_path, capsys):
    with ResultsFile(tmp_path):
        fails_as_bad_input(sweep.main, ["--folder", tmp_path, "--quiet"], capsys, "another sweep writes to it")


def test_the_table_has_means_and_intervals_and_what_differs():
    runs = [
        result("a", 0.7, changes={"lr": 0.1, "wd": 0.0}),
        result("b", 0.8, changes={"lr": 0.1, "wd": 0.0}),
        result("c", 0.9, changes={"lr": 0.9, "wd": 0.0}),
        result("d", changes={"lr": 0.9, "wd": 0.0}, error="killed by SIGKILL"),
    ]
    head, first, second = report.table(runs).splitlines()
    assert head.split() == ["lr", "runs", "test", "accuracy", "parameters", "seconds", "failed"]
    # Student's t with one degree of freedom: 12.706 * 0.0707 / sqrt(2)
    assert first.split() == ["0.1", "2", "0.7500", "±", "0.6353", "44,426", "2.0"]
    assert second.split(maxsplit=5) == ["0.9", "1", "0.9000", "44,426", "2.0", "1: killed by SIGKILL"]
    validated = msgspec.structs.replace(
        runs[0],
        history=[
            EpochResult(1, 1.0, 0.4, 0.5, 1.0, 0.1, val_loss=1.0, val_acc=0.66),
            EpochResult(2, 1.0, 0.4, 0.9, 1.0, 0.1, val_loss=1.0, val_acc=0.55),
        ],
    )
    assert "validation accuracy" in report.table([validated]).splitlines()[0]
    assert (validated.score, validated.best.test_acc) == (0.66, 0.5), "settings are not compared on the test images"


def test_settings_that_differ_little_are_different_rows():
    runs = [result(str(lr), changes={"lr": lr}) for lr in (0.1, 0.100001, 0.100002)]
    assert [row.split()[0] for row in report.table(runs).splitlines()[1:]] == ["0.1", "0.100001", "0.100002"]
    labels = [label.get_text() for label in report.plot(runs, "t").axes[0].get_yticklabels()]
    assert len(set(labels)) == 3
    many = [result(str(i), i / 1000, changes={"lr": i + 1}) for i in range(300)]
    figure = report.plot(many, "t")
    assert figure.axes[0].get_title() == "t: the best 200 of 300"
    assert figure.axes[0].get_yticklabels()[0].get_text() == "lr 300"


def test_a_dictionary_is_checked_like_a_file(tmp_path):
    for space, message in (({"sets": {}}, "the field 'sets' is unknown"), ({"seeds": 0}, "seeds must be an integer")):
        with pytest.raises(InputError, match=f"the space: {message}"):
            run_all(space, tmp_path)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--backprop", "x"], "--backprop: invalid choice: 'x'"),
        (["--ctx", "cuda"], "unknown context 'cuda'"),
        (["--data-dir", "nowhere"], "--data-dir nowhere: there is no such folder"),
        (["--keep", "--folder", "\udcff"], "not valid UTF-8"),
        (["--set", "lrr=1"], "unknown setting 'lrr'"),
        (["--seeds", "0"], "--seeds: '0' is not a whole number"),
        (["nothing.json"], "nothing.json cannot be read"),
        (["--on", "tcp://127.0.0.1:1", "--jobs", "2"], "--jobs is for this machine"),
        (["--recipe", "lent"], "unknown recipe 'lent'"),
    ],
)
def test_bad_input(args, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fails_as_bad_input(sweep.main, args, capsys, message)


@pytest.mark.distributed
def test_a_signalled_run_has_no_result(tmp_path):
    """It would stop after a batch, as a training in a terminal does; a part of its epochs is no result."""
    args = ["--set", "num_epochs=300", "--keep", "--folder", tmp_path / "f", "--jobs", "1", "--quiet"]
    process = subprocess.Popen([sys.executable, "-m", "gluon_lenet.sweep", *args], env=module_env(), cwd=tmp_path)
    while not list(tmp_path.glob("f/runs/*/metrics.jsonl")):
        time.sleep(0.1)
    (run,) = of_parent(process.pid)
    os.kill(int(run), signal.SIGTERM)
    assert process.wait(60) == 1
    (line,) = (tmp_path / "f" / "results.jsonl").read_text().splitlines()
    assert (json.loads(line)["error"], json.loads(line)["killed"]) == ("exit status 130: interrupted", True)


@pytest.mark.distributed
def test_nothing_runs_on_when_a_sweep_is_killed(tmp_path):
    for number, status in ((signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)):
        process = subprocess.Popen(
            [sys.executable, "-m", "gluon_lenet.sweep", "--seeds", "4", "--folder", tmp_path / str(number)],
            cwd=tmp_path,
            env=module_env(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(
                signal.SIGINT, signal.SIG_DFL
            ),  # ignored if the tests run in the background
        )
        while not (children := list(of_parent(process.pid))):
            time.sleep(0.05)
        time.sleep(1)
        process.send_signal(number)
        _, errors = process.communicate(timeout=10)
        assert process.returncode == status
        if number != signal.SIGKILL:
            assert "repeat the command to go on" in errors
        deadline = time.monotonic() + 5
        while any(os.path.exists(f"/proc/{child}") for child in children):
            assert time.monotonic() < deadline, f"a run goes on after signal {number}"
            time.sleep(0.05)


def of_parent(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        direct = file.read().split()
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children") as file:
            direct += file.read().split()
    return set(direct)


@pytest.mark.distributed
def test_a_sweep_of_60_runs_killed_five_times(tmp_path):
    """Each result once, equal to those of an undisturbed sweep."""
    space = {"set": {"num_train": [1000], "num_epochs": [1], "lr": [0.1, 0.2, 0.3]}, "seeds": 20}
    command = [sys.executable, "-m", "gluon_lenet.sweep", "sweep.json", "--folder"]
    (tmp_path / "sweep.json").write_text(json.dumps(space))
    for kill in range(5):
        process = subprocess.Popen([*command, "killed"], cwd=tmp_path, env=module_env(), stdout=subprocess.PIPE)
        for _ in range(2 + 3 * kill):
            process.stdout.readline()
        time.sleep(0.3 * kill)
        process.kill()
        process.communicate()
    for folder in ("killed", "whole"):
        done = subprocess.run([*command, folder], cwd=tmp_path, env=module_env(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    lines = (tmp_path / "killed" / "results.jsonl").read_text().splitlines()
    assert len(lines) == len({json.loads(line)["key"] for line in lines}) == 60
    killed, whole = (run_all(space, tmp_path / folder) for folder in ("killed", "whole"))
    for one, other in zip(killed, whole, strict=True):
        assert same(one) == same(other)


def same(result):
    """What must be equal of a result: all but the times."""
    return [(epoch.epoch, epoch.train_loss, epoch.test_acc) for epoch in result.history], result.changes, result.seed


@pytest.mark.distributed
def test_a_worker_of_dask_is_killed(tmp_path):
    """Its runs are done by the other worker, of which a run is killed, too: it is done again."""
    pytest.importorskip("distributed.client")
    env, quiet = module_env(), {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes = []

    def start(name, *args):
        command = [sys.executable, "-m", f"distributed.cli.dask_{name}", "--host", "127.0.0.1", "--no-dashboard", *args]
        processes.append(subprocess.Popen(command, cwd=tmp_path, env=env, start_new_session=True, **quiet))
        return processes[-1]

    try:
        start("scheduler", "--port", "0", "--scheduler-file", "scheduler.json")
        while not (tmp_path / "scheduler.json").exists() or not (tmp_path / "scheduler.json").read_text():
            time.sleep(0.1)
        address = json.loads((tmp_path / "scheduler.json").read_text())["address"]
        workers = [start("worker", address, "--nthreads", "1", "--no-nanny") for _ in range(2)]
        command = [sys.executable, "-m", "gluon_lenet.sweep", *FAST, "--seeds", "6", "--folder", "f", "--on", address]
        sweeping = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True)
        for _ in range(2):  # "6 runs", and the first result
            sweeping.stdout.readline()
        while not (runs := of_parent(workers[1].pid)):
            time.sleep(0.05)
        os.kill(int(runs.pop()), signal.SIGKILL)
        workers[0].kill()
        out, _ = sweeping.communicate(timeout=170)
        assert sweeping.returncode == 0, out
    finally:
        for process in processes:
            process.kill()
            process.wait()
    space = {"set": {"num_train": [2000], "num_epochs": [1], "batch_size": [50]}, "seeds": 6}
    far, here = run_all(space, tmp_path / "f"), run_all(space, tmp_path / "here", Options(jobs=2))
    assert [same(result) for result in far] == [same(result) for result in here]


@pytest.mark.distributed
def test_no_scheduler_is_an_error(run_module):
    pytest.importorskip("distributed.client")
    one_error_line(run_module("sweep", "--on", "tcp://127.0.0.1:1"), "there is no Dask scheduler")


def test_no_slurm_is_an_error(run_module, tmp_path):
    pytest.importorskip("distributed.client")
    done = run_module("sweep", "--on", "slurm", "--folder", str(tmp_path / "f"), env=module_env(PATH=str(tmp_path)))
    one_error_line(done, "there is no sbatch here")
