"""Hosts and a training's arguments -> a gang of processes, watched as one: all end well, or none is left.

ps-lite lets the others wait for ever when a process dies, so that it is watched from outside. The first failure ends
everything; the gang may then be started again, from its last checkpoint.
"""

from __future__ import annotations

import contextlib
import queue
import select
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import msgspec

from gluon_lenet.distributed import processes
from gluon_lenet.distributed.agent import SILENCE
from gluon_lenet.distributed.environment import LAUNCHED, RANK, RESTARTED
from gluon_lenet.distributed.hosts import LOCAL, LOOPBACK, Host
from gluon_lenet.distributed.messages import (
    Beat,
    Beaten,
    End,
    Ended,
    FromAgent,
    Held,
    Here,
    Hold,
    Line,
    Start,
    Started,
    Stopped,
)
from gluon_lenet.errors import InputError

# Seconds that a worker may take for it
_PATIENCE = {"joining": 600.0, "starting": 600.0, "testing": 120.0, "ending": 60.0}
_CONNECT = 8.0  # seconds until an agent must answer
_GRACE = 3.0  # seconds in which an agent must end its processes, 1 more than it gives them
_TRIES = 5  # of finding ports that are free on every host


class GangError(Exception):
    """The gang has failed: the process that did so first, and its first error.

    Attributes:
        status: the exit status of that process, if it ended by itself, else 1.
    """

    def __init__(self, message: str, status: int = 1):
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Plan:
    """What is started, and how.

    Args:
        placed: names of processes and their hosts, as `hosts.place` has them.
        command: a process's arguments, after `python`.
        threads: of each worker.
        port: of the scheduler; 0 for any free one.
        stall: seconds that a step may take before its worker is taken for stuck.
        ssh: the command for it.
        tunnel: whether all connections between hosts go through ssh.
    """

    placed: list[tuple[str, Host]]
    command: list[str]
    threads: int
    port: int = 0
    stall: float = 6.0
    ssh: list[str] = field(default_factory=lambda: ["ssh"])
    tunnel: bool = False

    @property
    def hosts(self) -> list[Host]:
        """Each host once, the scheduler's first."""
        return list(dict.fromkeys(host for _, host in self.placed))

    def environment(self, name: str, host: Host, ports: dict[str, int], is_restart: bool) -> dict[str, str]:
        """The variables of a process."""
        role, _, number = name.partition(" ")
        counts = {role: sum(other.startswith(role) for other, _ in self.placed) for role in ("worker", "server")}
        found = {
            "DMLC_ROLE": role,
            "DMLC_PS_ROOT_URI": self.hosts[0].address,
            "DMLC_PS_ROOT_PORT": str(ports["scheduler"]),
            "DMLC_NODE_HOST": host.address,
            "DMLC_NUM_WORKER": str(counts["worker"]),
            "DMLC_NUM_SERVER": str(counts["server"]),
            "OMP_NUM_THREADS": str(self.threads if role == "worker" else 1),
            "PYTHONUNBUFFERED": "1",
            LAUNCHED: "1",
        }
        if role == "worker":
            found |= {RANK: number}
        if name in ports and role != "scheduler":
            found |= {"PORT": str(ports[name])}
        return found | ({RESTARTED: "1"} if is_restart else {})


class Watcher:
    """Is notified of what a gang does. This base class does nothing."""

    def line(self, name: str, text: str, is_error: bool) -> None:
        """Called with each line that a process prints."""

    def beat(self, beat: Beat) -> None:
        """Called with the reports of the worker of rank 0."""


class _Connection:
    """The connection to the agent of a host."""

    def __init__(self, host: Host, ssh: list[str], inbox: queue.Queue):
        self.host, self.heard, self.has_spoken, self.pids, self.errors = host, time.monotonic(), False, [], []
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = processes.start(host.agent(ssh), **pipes)
        self._outbox = queue.Queue()
        tasks = (self._read, (inbox,)), (self._complain, ()), (self._write, ())
        self._threads = [threading.Thread(target=target, args=args, daemon=True) for target, args in tasks]
        for thread in self._threads:
            thread.start()

    def _read(self, inbox: queue.Queue) -> None:
        with self.process.stdout as stream:
            for line in stream:
                self.heard, self.has_spoken = time.monotonic(), True
                inbox.put((self, msgspec.json.decode(line, type=FromAgent)))
        inbox.put((self, None))

    def _complain(self) -> None:
        with self.process.stderr as stream:
            for line in stream:
                self.errors.append(line.decode(errors="replace").strip())

    def _write(self) -> None:
        with contextlib.suppress(OSError), self.process.stdin as stream:  # it is gone; `_read` notices
            for data in iter(self._outbox.get, None):
                stream.write(data)
                stream.flush()

    def close(self) -> None:
        """Close the pipes, when the agent has ended."""
        self._outbox.put(None)
        for thread in self._threads:
            thread.join(1.0)

    def is_silent(self, seconds: float) -> bool:
        """Whether nothing has been heard for so long."""
        return time.monotonic() - self.heard > seconds

    def send(self, message) -> None:
        """Send it, without waiting for a host that does not read."""
        self._outbox.put(msgspec.json.encode(message) + b"\n")

    def why(self) -> str:
        """The last thing that the agent or ssh complained about, after it has ended."""
        self._threads[1].join(1.0)
        return next((line for line in reversed(self.errors) if line), processes.ending(self.process.wait(1)))


class Gang:
    """The processes of one try.

    Args:
        plan: what is started.
        watcher: is notified of what happens.
        is_restart: whether to go on with the run's files.
    """

    def __init__(self, plan: Plan, watcher: Watcher, is_restart: bool = False):
        self.plan, self.watcher, self.is_restart = plan, watcher, is_restart
        self._inbox = queue.Queue()
        self._connections: dict[Host, _Connection] = {}
        self._tunnels: list[subprocess.Popen] = []
        self._beats: dict[str, tuple[float, Beat]] = {}
        self._ended: dict[str, int] = {}
        self._errors: dict[str, str] = {}  # the first line of an error that each process printed
        self._begun = self._told = time.monotonic()
        self._pause = 0.0  # the longest time in which this process did not run
        self._is_over = threading.Event()

    def run(self) -> None:
        """Start everything and wait for its end; whatever happens, nothing is left running.

        Raises:
            GangError: a process has failed.
            InputError: a port is taken, or an address does not exist.
        """
        try:
            for host in self.plan.hosts:
                self._connections[host] = _Connection(host, self.plan.ssh, self._inbox)
            threading.Thread(target=self._tell, daemon=True).start()
            ports = self._hold_ports()
            if self.plan.tunnel:
                self._open_tunnels(ports)
            for name, host in self.plan.placed:
                environment = self.plan.environment(name, host, ports, self.is_restart)
                self._connections[host].send(Start(name, [host.python, *self.plan.command], environment))
            while len(self._ended) < len(self.plan.placed):
                for _ in self._messages(0.1):
                    pass
                self._check_beats()
        finally:
            self._end()

    def _tell(self) -> None:
        """Tell the agents that the launcher is alive, also while it waits for its terminal."""
        while not self._is_over.wait(1.0):
            self._pause, self._told = max(self._pause, time.monotonic() - self._told), time.monotonic()
            for connection in self._connections.values():
                connection.send(Here())

    def _messages(self, seconds: float) -> Iterator[tuple[_Connection, object]]:
        """Handle what comes within that time, and yield it; raises GangError if that is a failure."""
        deadline = time.monotonic() + seconds
        while True:
            self._check_pause()
            with contextlib.suppress(queue.Empty):
                connection, message = self._inbox.get(timeout=max(0.0, deadline - time.monotonic()))
                self._note(connection, message)
                yield connection, message
            for connection in self._connections.values():
                if connection.is_silent(SILENCE if connection.has_spoken else _CONNECT):
                    self._check_pause()  # which may just have ended
                    raise GangError(f"{_where(connection.host)} does not answer")
            if time.monotonic() >= deadline:
                return

    def _check_pause(self) -> None:
        """Raise GangError if the agents heard nothing of the launcher for too long."""
        if (pause := max(self._pause, time.monotonic() - self._told)) > SILENCE:
            raise GangError(f"the launcher itself was stopped for {pause:.0f} s, and the agents have given up")

    def _note(self, connection: _Connection, message) -> None:
        if message is None:
            raise GangError(f"{_where(connection.host)} is lost: {connection.why()}")
        if isinstance(message, Line):
            self.watcher.line(message.name, message.text, message.is_error)
            if message.is_error and _says_more(message.text, self._errors.get(message.name)):
                self._errors[message.name] = message.text
        elif isinstance(message, Started):
            connection.pids.append(message.pid)
        elif isinstance(message, Beaten):
            self._beats[message.name] = time.monotonic(), message.beat
            if message.beat.rank == 0:
                self.watcher.beat(message.beat)
        elif isinstance(message, Stopped):
            raise GangError(f"{message.name} was stopped by a signal")
        elif isinstance(message, Ended):
            self._ended[message.name] = message.status
            if message.status != 0:
                said = self._errors.get(message.name, "").removeprefix("error: ")
                ending = processes.ending(message.status)
                if message.status < 0:
                    raise GangError(f"{message.name} failed: {ending}")
                raise GangError(f"{message.name} failed: {ending}" + (f": {said}" if said else ""), message.status)

    def _check_beats(self) -> None:
        """Raise GangError if a worker is silent, or has been at the same thing for too long."""
        now, running = time.monotonic(), {}
        for name, (when, beat) in self._beats.items():
            if name in self._ended:
                continue
            if now - when > SILENCE and self._inbox.empty():
                raise GangError(
                    f"{name} has been silent for {SILENCE:.0f} s: it is stuck, or its machine is overloaded"
                )
            running[name] = beat
        for name, beat in running.items():
            limit = _PATIENCE.get(beat.state, self.plan.stall)
            if beat.state != "waiting" and beat.seconds > limit:
                raise GangError(
                    f"{name} is stuck: {beat.state} for {limit:.0f} s, epoch {beat.epoch}, batch {beat.batch}"
                )
        num_workers = sum(name.startswith("worker") and name not in self._ended for name, _ in self.plan.placed)
        if len(running) < num_workers:
            if now - self._begun > _PATIENCE["starting"]:
                raise GangError(f"after {now - self._begun:.0f} s, not all workers have reported")
        elif running and all(b.state == "waiting" and b.seconds > self.plan.stall for b in running.values()):
            raise GangError(
                f"the servers have not answered for {self.plan.stall:.0f} s: one of them, or the scheduler, is stuck"
            )

    def _hold_ports(self) -> dict[str, int]:
        """Ports by the names of processes: the scheduler's, and all of them if they are known on every host."""
        first = self._connections[self.plan.hosts[0]]
        if not self.plan.tunnel:
            return {"scheduler": self._hold(first, first.host.address, [self.plan.port])[0]}
        names = [name for name, _ in self.plan.placed]
        for _ in range(_TRIES):
            ports = self._hold(first, LOOPBACK, [self.plan.port] + [0] * (len(names) - 1))
            try:
                for connection in list(self._connections.values())[1:]:
                    self._hold(connection, LOOPBACK, ports)
            except InputError:
                continue
            return dict(zip(names, ports, strict=True))
        raise InputError("no ports were found that are free on all hosts; try again")

    def _hold(self, connection: _Connection, address: str, ports: list[int]) -> list[int]:
        connection.send(Hold(address, ports))
        for sender, message in self._messages(_CONNECT + 1):
            if sender is connection and isinstance(message, Held):
                if message.error:
                    raise InputError(
                        f"{_where(connection.host)}: {message.error}; choose another by --port, or address="
                    )
                return message.ports
        raise GangError(f"{_where(connection.host)} does not answer")

    def _open_tunnels(self, ports: dict[str, int]) -> None:
        """Let every host reach every process at 127.0.0.1 and its port, through ssh to this machine."""
        for host in self.plan.hosts:
            if host.name == LOCAL:
                continue
            options = ["-o", "ExitOnForwardFailure=yes"]
            for name, other in self.plan.placed:
                where = f"{LOOPBACK}:{ports[name]}:{LOOPBACK}:{ports[name]}"
                options += ["-L", where] if other == host else ["-R", where]
            command = host.remote(self.plan.ssh, "echo ready; exec cat >/dev/null", *options)
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            tunnel = processes.start(command, **pipes)
            self._tunnels.append(tunnel)
            timer = threading.Timer(_CONNECT, tunnel.kill)
            timer.start()
            while not select.select([tunnel.stdout], [], [], 0)[0]:
                for _ in self._messages(0.1):
                    pass
            ready = tunnel.stdout.readline() == b"ready\n"
            timer.cancel()
            if not ready:
                why = tunnel.stderr.read().decode(errors="replace").strip().splitlines()
                raise GangError(f"{_where(host)}: no tunnel: {why[-1] if why else 'ssh does not answer'}")

    def _end(self) -> None:
        """End all processes on all hosts, within some seconds."""
        self._is_over.set()
        for connection in self._connections.values():
            connection.send(End())
        deadline = time.monotonic() + _GRACE
        late = []
        for connection in self._connections.values():
            try:
                connection.process.wait(0 if connection.is_silent(2.0) else max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                late.append(connection)
        killers = [self._kill_there(connection) for connection in late if connection.host.name != LOCAL]
        for killer in filter(None, killers):
            with contextlib.suppress(subprocess.TimeoutExpired):
                killer.wait(2.0)
        agents = [connection.process for connection in self._connections.values()]
        processes.end([*agents, *filter(None, killers), *self._tunnels], grace=0)
        for connection in self._connections.values():
            connection.close()
        for tunnel in self._tunnels:
            for stream in (tunnel.stdin, tunnel.stdout, tunnel.stderr):
                stream.close()

    def _kill_there(self, connection: _Connection) -> subprocess.Popen | None:
        """Kill the processes of an agent on another host that does not do it itself."""
        if not connection.pids:
            return None
        groups = " ".join(f"-{pid}" for pid in connection.pids)
        return processes.start(
            connection.host.remote(self.plan.ssh, f"kill -KILL -- {groups}"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def supervise(plan: Plan, watcher: Watcher, max_restarts: int, say: Callable[[str], None]) -> None:
    """Run a gang to its end; after a failure, start it again from its last checkpoint, so many times at most.

    Raises:
        GangError: it has failed once more.
        InputError: as `Gang.run`; also if a process rejects its input, which it would do again.
    """
    for restart in range(max_restarts + 1):
        try:
            Gang(plan, watcher, is_restart=restart > 0).run()
            return
        except GangError as error:
            if restart == max_restarts or error.status == 2:
                raise
            say(f"{error}; starting again from the last checkpoint ({restart + 1} of {max_restarts})")


def _says_more(line: str, known: str | None) -> bool:
    """Whether a line of stderr is a better summary of an error than the one that is known."""
    if known is None or line.startswith("error: "):
        return True
    return known.startswith("Traceback") and bool(line) and not line.startswith(" ")  # the last line of the traceback


def _where(host: Host) -> str:
    return "the agent on this machine" if host.name == LOCAL else f"host {host.name}"
