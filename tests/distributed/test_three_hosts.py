"""Launched trainings on three hosts, which are network namespaces of this machine, by ssh."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from conftest import ROOT
from three_hosts import ThreeHosts, why_not

pytestmark = [pytest.mark.distributed, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]

HOSTS = "localhost address=10.77.0.1 workers=1\ntwo address=10.77.0.2 workers=1\nthree address=10.77.0.3 workers=1\n"
EPOCH = ["--epochs", "1", "--seed", "3", "--threads", "1", "--quiet"]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    with ThreeHosts(tmp_path_factory.mktemp("hosts")) as hosts:
        yield hosts


def start(hosts, text, *args, train):
    """The launcher, on host one."""
    command = [sys.executable, "-m", "gluon_lenet.launch", "--hosts", hosts.host_file(text), "--ssh", hosts.ssh]
    command = [*hosts.inside("one"), *command, *args, "--", *train]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(list(map(str, command)), cwd=ROOT, text=True, **pipes)


def is_clean(hosts, seconds=10):
    """Whether nothing runs on any host, by then at the latest."""
    deadline = time.monotonic() + seconds
    while any(hosts.processes(name) for name in hosts.names):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def weights(path):
    return load_file(path / "last.safetensors")


def wait_for_epoch(process, folder, number):
    while not (folder / "metrics.jsonl").exists() or (folder / "metrics.jsonl").read_text().count("\n") < number:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.fixture(scope="module")
def direct(hosts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("direct") / "run"
    process = start(hosts, HOSTS, train=[*EPOCH, "--run-dir", folder])
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    return folder, err


def test_they_train_one_net(hosts, direct, tmp_path):
    folder, err = direct
    assert "who reaches their ports can change the weights; --tunnel opens none" in err.splitlines()[0]
    assert is_clean(hosts)
    one = tmp_path / "one"
    subprocess.run([sys.executable, "-m", "gluon_lenet.train", *EPOCH, "--run-dir", one], cwd=ROOT, check=True)
    assert all(np.abs(array - weights(one)[key]).max() < 1e-5 for key, array in weights(folder).items())
    assert json.loads((folder / "config.json").read_text())["gang"]["workers"] == 3


def test_a_tunnel_opens_no_port(hosts, direct, tmp_path):
    before = {name: hosts.listening(name) for name in hosts.names}
    process = start(hosts, HOSTS, "--tunnel", train=["--epochs", "3", *EPOCH[2:], "--run-dir", tmp_path / "run"])
    wait_for_epoch(process, tmp_path / "run", 1)
    assert {name: hosts.listening(name) for name in hosts.names} == before
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    assert "trust" not in err
    assert is_clean(hosts)
    lines = [(folder / "metrics.jsonl").read_text().splitlines()[0] for folder in (direct[0], tmp_path / "run")]
    losses = [json.loads(line)["train_loss"] for line in lines]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("stranger address=10.77.0.2", "host stranger is lost: Host key verification failed."),
        ("gone address=10.77.0.99", "host gone is lost: ssh: connect to host 10.77.0.99 port 22"),
    ],
)
def test_a_host_that_cannot_be_reached_is_named(line, message, hosts, tmp_path):
    begun = time.monotonic()
    process = start(
        hosts, f"localhost address=10.77.0.1\n{line}", "--workers", 2, train=["--run-dir", tmp_path / "run"]
    )
    _, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert message in err.splitlines()[-1]
    assert time.monotonic() - begun < 13, "3 seconds of imports and 10 more"
    assert is_clean(hosts)


def test_a_worker_on_another_host_is_killed_and_the_gang_restarts(hosts, tmp_path):
    folder = tmp_path / "run"
    process = start(hosts, HOSTS, "--max-restarts", 1, train=["--epochs", "3", *EPOCH[2:], "--run-dir", folder])
    wait_for_epoch(process, folder, 1)
    (pid,) = [pid for pid, command in hosts.processes("three").items() if "gluon_lenet.train" in command]
    subprocess.run(["kill", "-KILL", str(pid)], check=True)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    assert "worker 2 failed: killed by SIGKILL; starting again from the last checkpoint (1 of 1)" in err
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 3
    assert is_clean(hosts)


def test_a_host_that_loses_its_network_is_named_and_left_clean(hosts, tmp_path):
    """The last test: the network stays cut."""
    process = start(hosts, HOSTS, train=["--epochs", "50", *EPOCH[2:], "--run-dir", tmp_path / "run"])
    wait_for_epoch(process, tmp_path / "run", 1)
    begun = time.monotonic()
    hosts.cut("three")
    _, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert time.monotonic() - begun < 12
    assert "host three" in err.splitlines()[-1] or "worker 2" in err.splitlines()[-1], err
    assert is_clean(hosts, 12 - (time.monotonic() - begun))
