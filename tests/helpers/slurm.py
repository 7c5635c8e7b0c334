"""Slurm on this machine alone: its controller, one node of eight made-up cores, and MUNGE; needs root."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from conftest import module_env

_SYSTEM = f"{os.environ['PATH']}:/usr/sbin"
_PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch")

_CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 Boards=1 SocketsPerBoard=1 CoresPerSocket=8 ThreadsPerCore=1 RealMemory=8000
PartitionName=test Nodes=ALL Default=YES State=UP
"""


def why_not() -> str | None:
    """Why this machine cannot have it; None if it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "Slurm needs root on Linux"
    if any(shutil.which(name, path=_SYSTEM) is None for name in _PROGRAMS):
        return "there is no Slurm (Debian: apt install slurm-wlm munge)"
    return None


class Slurm:
    """A cluster of one node.

    Args:
        folder: of its configuration, state and logs.

    Attributes:
        env: the environment for the commands of its users, whose `python` is this one.
    """

    def __init__(self, folder: Path):
        self.folder, self._daemons = folder, []
        (folder / "bin").mkdir()
        python = folder / "bin" / "python"
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
        self.env = module_env(PATH=f"{folder / 'bin'}:{_SYSTEM}", SLURM_CONF=str(folder / "slurm.conf"))

    def __enter__(self) -> Slurm:
        munge = self.folder / "munge"
        munge.mkdir(mode=0o711)
        (munge / "key").write_bytes(os.urandom(128))
        (munge / "key").chmod(0o600)
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        host = socket.gethostname().split(".")[0]
        text = _CONFIGURATION.format(host=host, folder=self.folder, ports=_free_ports(2))
        (self.folder / "slurm.conf").write_text(text)
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{option}={munge / name}" for option, name in files.items()]
        try:
            # --force: pytest's folders belong to others than MUNGE expects
            self._start("munged", "--foreground", "--force", *options)
            self._wait((munge / "socket").exists, munge / "log")
            self._start("slurmctld", "-D")
            self._start("slurmd", "-D")
            self._wait(lambda: "idle" in self.run("sinfo", "-ho", "%T", check=False), self.folder / "slurmctld.log")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception) -> None:
        for daemon in reversed(self._daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def run(self, *command: str, check: bool = True) -> str:
        """What a command of Slurm prints."""
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, check=check)
        return done.stdout.strip()

    def jobs(self) -> list[str]:
        """The numbers of the jobs that wait or run."""
        return self.run("squeue", "-h", "-o", "%i").split()

    def _wait(self, condition: Callable[[], bool], log: Path) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            if time.monotonic() > deadline:
                raise RuntimeError(log.read_text()[-2000:])
            time.sleep(0.2)

    def _start(self, name: str, *args: str) -> None:
        with open(self.folder / f"{name}.out", "w") as out:
            command = [shutil.which(name, path=_SYSTEM), *args]
            self._daemons.append(subprocess.Popen(command, env=self.env, stdout=out, stderr=out))


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [held.getsockname()[1] for held in sockets]
    for held in sockets:
        held.close()
    return ports
