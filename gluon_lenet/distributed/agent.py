"""A launcher's messages -> processes of this host, watched; what they print and how they end -> messages to it.

The agent ends all its processes when the launcher says so, when the connection to it ends, and when nothing has been
heard from it for some seconds: a host that has lost its network is left clean, too.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack

import msgspec

from gluon_lenet.distributed import processes
from gluon_lenet.distributed.messages import (
    BEAT,
    Beat,
    Beaten,
    End,
    Ended,
    Held,
    Here,
    Hold,
    Line,
    Start,
    Started,
    Stopped,
    ToAgent,
)

SILENCE = 5.0  # seconds without a message from the other side, after which it is taken for dead
_STOPPED = 2.0  # seconds after which a stopped process is taken for one that nobody will continue
_POLL = 0.05


class Child:
    """A process and the threads that read what it prints."""

    def __init__(self, start: Start, send):
        self.name, self._send = start.name, send
        self.process = processes.start(
            start.command,
            env={**os.environ, **start.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        streams = (self.process.stdout, False), (self.process.stderr, True)
        self._readers = [threading.Thread(target=self._read, args=stream, daemon=True) for stream in streams]
        for reader in self._readers:
            reader.start()
        self._stopped_since, self.has_ended = None, False

    def _read(self, stream, is_error: bool) -> None:
        for line in stream:
            if line.startswith(BEAT):
                self._send(Beaten(self.name, msgspec.json.decode(line[len(BEAT) :], type=Beat)))
            else:
                self._send(Line(self.name, line.decode(errors="replace").rstrip("\n"), is_error))

    def look(self) -> None:
        """Tell the launcher if the process has ended or is stopped."""
        if self.has_ended:
            return
        if not self._is_stopped():
            self._stopped_since = None
        elif self._stopped_since is None:
            self._stopped_since = time.monotonic()
        elif time.monotonic() - self._stopped_since > _STOPPED:
            self._send(Stopped(self.name))
        status = self.process.poll()
        if status is not None:
            self.has_ended = True
            for reader in self._readers:
                reader.join(0.3)  # bounded: a process of its own may hold the pipe
            self._send(Ended(self.name, status))

    def _is_stopped(self) -> bool:
        how = os.WSTOPPED | os.WEXITED | os.WNOHANG | os.WNOWAIT
        try:
            known = os.waitid(os.P_PID, self.process.pid, how)
        except ChildProcessError:  # it has ended, and was waited for
            return False
        return known is not None and known.si_code == os.CLD_STOPPED


class Agent:
    """Reads messages from stdin and writes others to stdout until it is told to end."""

    def __init__(self):
        self._input, self._lock = queue.Queue(), threading.Lock()
        self._children: list[Child] = []
        self._held = ExitStack()
        self._temporary = self._held.enter_context(tempfile.TemporaryDirectory())  # killed processes leave files there

    def run(self) -> None:
        """Serve the launcher; at the end nothing that was started is left."""
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # of the launcher's terminal: the launcher decides
        signal.signal(signal.SIGTERM, lambda *_: self._input.put(End()))
        threading.Thread(target=self._listen, daemon=True).start()
        heard = told = time.monotonic()
        try:
            while True:
                try:
                    message = self._input.get(timeout=_POLL)
                    heard = time.monotonic()
                    if isinstance(message, End):
                        return
                    self._obey(message)
                except queue.Empty:
                    if time.monotonic() - heard > SILENCE:
                        return
                for child in self._children:
                    child.look()
                if time.monotonic() - told > 1.0:
                    told = time.monotonic()
                    self._send(Here())
        finally:
            processes.end([child.process for child in self._children])
            self._held.close()
            os._exit(0)  # the reading threads are not waited for

    def _listen(self) -> None:
        for line in sys.stdin.buffer:
            self._input.put(msgspec.json.decode(line, type=ToAgent))
        self._input.put(End())

    def _send(self, message) -> None:
        data = msgspec.json.encode(message) + b"\n"
        try:
            with self._lock:
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
        except OSError:  # the launcher is gone
            self._input.put(End())

    def _obey(self, message) -> None:
        if isinstance(message, Hold):
            self._send(self._hold(message))
        elif isinstance(message, Start):
            message.environment.setdefault("TMPDIR", self._temporary)
            child = Child(message, self._send)
            self._children.append(child)
            self._send(Started(message.name, child.process.pid))

    def _hold(self, message: Hold) -> Held:
        """Bind the ports without listening: a process that is told one can still bind it, others are not given it.

        Linux lets two sockets have a port if both have SO_REUSEADDR, as those of ps-lite and ssh, and only one listens.
        """
        ports = []
        for port in message.ports:
            holder = self._held.enter_context(socket.socket())
            try:
                if port:
                    _check_free(message.address, port)
                holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                holder.bind((message.address, port))
            except OSError as error:
                return Held(
                    [],
                    f"port {port} of {message.address}: {error.strerror}"
                    if port
                    else f"address {message.address}: {error.strerror}",
                )
            ports.append(holder.getsockname()[1])
        return Held(ports)


def _check_free(address: str, port: int) -> None:
    """Raise OSError if another process has the port."""
    with socket.socket() as probe:
        probe.bind((address, port))
