"""hosts, environment, planning, servers: what is rejected before anything starts, and what a server loads."""

import io
import pickle
from itertools import chain
from types import SimpleNamespace

import mxnet as mx
import pytest

from conftest import fails_as_bad_input
from gluon_lenet import launch
from gluon_lenet.distributed import servers
from gluon_lenet.distributed.engine import share
from gluon_lenet.distributed.environment import config_of, rank_of
from gluon_lenet.distributed.hosts import Host, place, read_hosts
from gluon_lenet.errors import InputError
from gluon_lenet.training.config import GangConfig


@pytest.mark.parametrize("num_workers", [1, 2, 3, 7, 64])
def test_shares_are_whole_disjoint_and_nearly_equal(num_workers):
    for num_images in (0, 1, 63, 96, 256, 60000):
        rows = list(range(num_images))
        parts = [rows[share(num_images, rank, num_workers)] for rank in range(num_workers)]
        assert list(chain(*parts)) == rows
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def hosts(tmp_path, text, tunnel=False):
    (tmp_path / "hosts").write_text(text)
    return read_hosts(str(tmp_path / "hosts"), tunnel)


def test_a_host_file(tmp_path):
    text = "# two\nlocalhost address=127.0.0.1 workers=2\nme@far address=10.0.0.5 workers=1 python=/p directory=/d\n"
    near, far = hosts(tmp_path, text)
    assert (near.name, near.address, near.workers) == ("localhost", "127.0.0.1", 2)
    assert far == Host("me@far", "10.0.0.5", 1, "/p", "/d")
    command = far.agent(["ssh", "-F", "config"])
    assert command[:3] == ["ssh", "-F", "config"]
    assert command[-3:] == ["--", "me@far", "cd /d && exec /p -m gluon_lenet.distributed"]
    assert not any("StrictHostKeyChecking" in part for part in command), "the user's known hosts decide"
    names = [(name, host.name) for name, host in place([near, far], None, 2)]
    assert names[:3] == [("scheduler", "localhost"), ("server 0", "localhost"), ("server 1", "me@far")]
    assert names[3:] == [("worker 0", "localhost"), ("worker 1", "localhost"), ("worker 2", "me@far")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no host"),
        ("a address=10.0.0.1\na address=10.0.0.2\n", "names a twice"),
        ("-oProxyCommand=x address=10.0.0.1\n", "line 1: '-oProxyCommand=x' is no host name"),
        ("a slots=2\n", "line 1: 'slots=2' must be one of workers=..., address=..., python=..., directory=..., once"),
        ("a address=10.0.0.1 workers=x\n", "workers=x must be a number"),
        ("localhost\n", "localhost needs address=..., at which the other hosts reach it"),
        ("a address=0.0.0.0\n", "other hosts cannot reach a at 0.0.0.0; give its own address"),
        ("a address=127.0.1.1\n", "other hosts cannot reach a at 127.0.1.1"),
        ("a address=8.8.8.8\n", "8.8.8.8 is a public address, and whoever reaches a parameter server"),
        ("a address=nowhere.invalid\n", "nowhere.invalid has no IPv4 address"),
    ],
)
def test_a_wrong_host_file(text, message, tmp_path):
    with pytest.raises(InputError) as error:
        hosts(tmp_path, text)
    assert message in str(error.value)


def test_with_a_tunnel_addresses_do_not_matter(tmp_path):
    (host,) = hosts(tmp_path, "far address=8.8.8.8\n", tunnel=True)
    assert host.address == "127.0.0.1"


def test_workers_are_placed_evenly_or_as_the_file_says():
    two = [Host("a"), Host("b")]
    assert [host.name for name, host in place(two, 5, 1) if name.startswith("worker")] == ["a", "a", "a", "b", "b"]
    with pytest.raises(InputError, match="--workers N is needed"):
        place(two, None, 1)
    with pytest.raises(InputError, match="gives some hosts workers=N, and others none"):
        place([Host("a", workers=1), Host("b")], 2, 1)
    with pytest.raises(InputError, match="--workers 3: the host file has 2 workers"):
        place([Host("a", workers=1), Host("b", workers=1)], 3, 1)
    with pytest.raises(InputError, match="the first host must have a worker"):
        place([Host("a", workers=0), Host("b", workers=1)], None, 1)


GOOD = {
    "DMLC_ROLE": "worker",
    "DMLC_PS_ROOT_URI": "127.0.0.1",
    "DMLC_PS_ROOT_PORT": "9091",
    "DMLC_NUM_WORKER": "2",
    "DMLC_NUM_SERVER": "1",
}


def test_the_environment_is_checked():
    assert config_of(GOOD, "dist_sync", "2bit") == GangConfig(2, "dist_sync", "2bit")
    with pytest.raises(InputError, match="the environment lacks DMLC_ROLE, DMLC_NUM_SERVER; "):
        config_of({**GOOD, "DMLC_ROLE": "", "DMLC_NUM_SERVER": ""}, "dist_sync", None)
    with pytest.raises(InputError, match="DMLC_ROLE is 'boss'; choose from scheduler, server, worker"):
        config_of({**GOOD, "DMLC_ROLE": "boss"}, "dist_sync", None)
    with pytest.raises(InputError, match="DMLC_NUM_WORKER is 'two'; it must be a number"):
        config_of({**GOOD, "DMLC_NUM_WORKER": "two"}, "dist_sync", None)
    assert rank_of(GOOD) is None
    assert rank_of({**GOOD, "GLUON_LENET_RANK": "1"}) == 1
    with pytest.raises(InputError, match="GLUON_LENET_RANK is '2'; it must be a number below DMLC_NUM_WORKER"):
        rank_of({**GOOD, "GLUON_LENET_RANK": "2"})


BAD = [
    (["--tunnel"], "--tunnel is for several hosts"),
    (["--workers", "0"], "--workers: '0' is not a whole number"),
    (["--hosts", "nothing"], "nothing cannot be read"),
    (["--", "--recipe", "lent"], "unknown recipe 'lent'"),
    (["--", "--lr", "x"], "--lr: 'x' is not a number above 0"),
    (["--max-restarts", "1", "--", "--kvstore", "dist_async"], "--max-restarts needs dist_sync without compression"),
    (["--", "--resume", "nothing"], "nothing holds no run"),
]


@pytest.mark.parametrize(("args", "message"), BAD)
def test_bad_input(args, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fails_as_bad_input(launch.main, args, capsys, message)


def test_an_mxnet_without_ps_lite_says_so(monkeypatch, capsys):
    monkeypatch.setattr(mx.runtime, "Features", lambda: SimpleNamespace(is_enabled=lambda name: False))
    fails_as_bad_input(launch.main, [], capsys, "has no parameter server (that for ARM", "--ctx 'cpu(0),cpu(1)'")


def test_a_server_loads_optimizers_and_no_code():
    schedules = [None, mx.lr_scheduler.MultiFactorScheduler([10], 0.1), mx.lr_scheduler.CosineScheduler(10)]
    for schedule in schedules:
        for optimizer in (mx.optimizer.SGD(momentum=0.9, lr_scheduler=schedule), mx.optimizer.Adam()):
            loaded = servers._Unpickler(io.BytesIO(pickle.dumps(optimizer, 0))).load()
            assert type(loaded) is type(optimizer)
            assert loaded.lr == optimizer.lr

    class Hostile:
        def __reduce__(self):
            return print, ("run",)

    with pytest.raises(pickle.UnpicklingError, match=r"builtins.print has no place in an optimizer"):
        servers._Unpickler(io.BytesIO(pickle.dumps(Hostile()))).load()
