"""supervision.py and agent.py: gangs of small programs that fail in every way; all ends, and the right one is named."""

import os
import signal
import socket
import sys
import threading
import time

import msgspec
import pytest

from chaos import marked
from gluon_lenet.distributed import agent, processes
from gluon_lenet.distributed.hosts import Host, place
from gluon_lenet.distributed.messages import Start
from gluon_lenet.distributed.supervision import Gang, GangError, Plan, Watcher, supervise
from gluon_lenet.errors import InputError

BEAT = (
    "import os, sys, time\n"
    "name = os.environ['DMLC_ROLE'] + os.environ.get('GLUON_LENET_RANK', '')\n"
    "def beat(state='computing', seconds=0.0, rank=int(os.environ.get('GLUON_LENET_RANK', 9)), batch=1):\n"
    '    text = f\'"rank":{rank},"state":"{state}","seconds":{seconds},"epoch":1,"batch":{batch}\'\n'
    "    os.write(1, b'\\x1e{' + text.encode() + b',\"num_batches\":5,\"num_epochs\":2}\\n')\n"
)


def gang(code, **plan):
    """A gang of Python programs, which know their `name` and can `beat`."""
    placed = place([Host()], 2, 1)
    return Gang(Plan(placed, ["-c", BEAT + code], threads=1, **plan), Recorder())


class Recorder(Watcher):
    def __init__(self):
        self.lines, self.beats = [], []

    def line(self, name, text, is_error):
        self.lines.append((name, text, is_error))

    def beat(self, beat):
        self.beats.append(beat.batch)


@pytest.fixture
def mark(monkeypatch):
    """Carried by all processes of the test, of which none may be left."""
    monkeypatch.setenv("GLUON_LENET_CHAOS", text := f"test{os.getpid()}x{time.monotonic_ns()}")
    yield text
    assert not marked(text)


def test_what_processes_print_and_report_is_passed_on(mark):
    one = gang("print('hello from', name)\nif name == 'worker0': beat(batch=3)\nprint('odd', file=sys.stderr)")
    one.run()
    assert sorted(line for line in one.watcher.lines if not line[2]) == [
        ("scheduler", "hello from scheduler", False),
        ("server 0", "hello from server", False),
        ("worker 0", "hello from worker0", False),
        ("worker 1", "hello from worker1", False),
    ]
    assert sum(is_error for _, _, is_error in one.watcher.lines) == 4
    assert one.watcher.beats == [3]


WAIT = "\ntime.sleep(60)"
FAILURES = {  # what a process does -> the message
    "error": ("if name == 'worker1': sys.exit('error: no such data')", "worker 1 failed: exit status 1: no such data"),
    "exception": ("if name == 'worker0': 1 / 0", "worker 0 failed: exit status 1: ZeroDivisionError: "),
    "kill": ("if name == 'server': os.kill(os.getpid(), 9)", "server 0 failed: killed by SIGKILL"),
    "terminate": ("if name == 'scheduler': os.kill(os.getpid(), 15)", "scheduler failed: killed by SIGTERM"),
    "stop": ("if name == 'server': os.kill(os.getpid(), 19)", "server 0 was stopped by a signal"),
    "stuck": (
        "while True:\n  beat(*(('computing', 2.0) if name == 'worker1' else ('waiting', 2.0)))\n  time.sleep(0.1)",
        "worker 1 is stuck: computing for 1 s, epoch 1, batch 1",
    ),
    "stuck server": (
        "while name[0] == 'w':\n  beat('waiting', 2.0)\n  time.sleep(0.1)",
        "the servers have not answered for 1 s: one of them, or the scheduler, is stuck",
    ),
    "deaf": (
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nif name == 'worker0': sys.exit(3)",
        "worker 0 failed: exit status 3",
    ),
    "children": (
        "import subprocess\nsubprocess.Popen(['sleep', '60'])\nif name == 'worker0': sys.exit(3)",
        "worker 0 failed: exit status 3",
    ),
}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.distributed if kind == "deaf" else ()) for kind in FAILURES]
)
def test_the_first_failure_ends_all(kind, mark):
    code, message = FAILURES[kind]
    begun = time.monotonic()
    with pytest.raises(GangError) as error:
        gang(code + WAIT, stall=1.0).run()
    assert str(error.value).startswith(message)
    assert time.monotonic() - begun < 10


def test_a_lost_agent_is_named(mark):
    threading.Timer(1.0, lambda: os.kill(marked(mark)["agent"], signal.SIGKILL)).start()
    with pytest.raises(GangError, match="the agent on this machine is lost: killed by SIGKILL"):
        gang(
            "import ctypes, signal\nctypes.CDLL(None).prctl(1, signal.SIGKILL)" + WAIT  # as `follow_parent` does
        ).run()
    deadline = time.monotonic() + 5
    while marked(mark):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_port_that_is_taken_is_named_before_anything_starts(mark):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"port {port} of 127.0.0.1: Address already in use; choose another"):
            gang("", port=port).run()


def test_the_port_of_the_scheduler_is_held_for_it(mark):
    """It can bind it, with SO_REUSEADDR as ps-lite does; nobody else is given it."""
    code = (
        "import socket\ns = socket.socket()\nport = int(os.environ['DMLC_PS_ROOT_PORT'])\n"
        "if name == 'scheduler':\n"
        "  s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
        "  s.bind(('127.0.0.1', port)); s.listen()\n"
        "elif name == 'server':\n"
        "  try: s.bind(('127.0.0.1', port)); sys.exit('it got the port')\n"
        "  except OSError: pass\n"
    )
    gang(code).run()


def test_a_restart_goes_on_and_bad_input_does_not(mark, tmp_path):
    plan = Plan(
        place([Host()], 1, 1),
        [
            "-c",
            f"import os\nif os.environ['DMLC_ROLE'] == 'worker' and not os.environ.get('GLUON_LENET_RESTARTED'):\n"
            f"  open({str(tmp_path / 'tried')!r}, 'a').write('x')\n  os.kill(os.getpid(), 9)",
        ],
        threads=1,
    )
    said = []
    supervise(plan, Watcher(), 2, said.append)
    assert said == ["worker 0 failed: killed by SIGKILL; starting again from the last checkpoint (1 of 2)"]
    assert (tmp_path / "tried").read_text() == "x"
    plan = Plan(
        place([Host()], 1, 1), ["-c", "import sys\nprint('error: no', file=sys.stderr)\nsys.exit(2)"], threads=1
    )
    with pytest.raises(GangError, match="exit status 2") as error:
        supervise(plan, Watcher(), 2, said.append)
    assert error.value.status == 2
    assert len(said) == 1


@pytest.mark.distributed
def test_an_agent_whose_launcher_is_silent_ends_everything(mark):
    """As after a broken network: what runs on a host that cannot be reached ends by itself."""
    process = processes.start([sys.executable, "-m", "gluon_lenet.distributed"], stdin=-1, stdout=-1)
    start = Start("worker 0", [sys.executable, "-c", "import time; time.sleep(60)"], {})
    process.stdin.write(msgspec.json.encode(start) + b"\n")
    process.stdin.flush()
    assert b"started" in process.stdout.readline()
    begun = time.monotonic()
    process.wait(agent.SILENCE + 3)
    assert time.monotonic() - begun > agent.SILENCE - 1
    for stream in (process.stdin, process.stdout):
        stream.close()
