"""A host file -> which processes run where, and how they are reached."""

from __future__ import annotations

import ipaddress
import shlex
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path

from gluon_lenet.atomic import read_regular
from gluon_lenet.errors import InputError

_LARGEST = 2**20  # bytes of a host file
LOCAL = "localhost"
LOOPBACK = "127.0.0.1"
_OPTIONS = ("workers", "address", "python", "directory")


@dataclass(frozen=True)
class Host:
    """A machine that processes run on."""

    name: str = LOCAL  # as ssh knows it; LOCAL is this machine
    address: str = LOOPBACK  # that its processes listen on
    workers: int | None = None  # None: a share of all
    python: str = sys.executable
    directory: str = field(default_factory=lambda: str(Path.cwd()))

    def agent(self, ssh: list[str]) -> list[str]:
        """The command of its agent."""
        if self.name == LOCAL:
            return [self.python, "-m", "gluon_lenet.distributed"]
        command = f"cd {shlex.quote(self.directory)} && exec {shlex.quote(self.python)} -m gluon_lenet.distributed"
        return self.remote(ssh, command)

    def remote(self, ssh: list[str], command: str, *options: str) -> list[str]:
        """A shell command there, by ssh; its own configuration and known hosts hold, and it never asks."""
        patience = "ConnectTimeout=4", "ServerAliveInterval=2", "ServerAliveCountMax=2", "BatchMode=yes"
        given = [part for option in patience for part in ("-o", option)]
        return [*ssh, *given, *options, "--", self.name, command]


def read_hosts(path: str, tunnel: bool) -> list[Host]:
    """The hosts of a file, a line each: `NAME [workers=2] [address=10.0.0.5] [python=...] [directory=...]`.

    Args:
        path: of the file; `#` begins a comment.
        tunnel: whether all connections go through ssh, so that addresses do not matter.

    Raises:
        InputError: a line cannot be understood, or an address is unknown or public.
    """
    text = read_regular(path, _LARGEST).decode(errors="replace")
    lines = [(number, line.split("#")[0].split()) for number, line in enumerate(text.splitlines(), 1)]
    hosts = [_host(f"{path}, line {number}", words, tunnel) for number, words in lines if words]
    if not hosts:
        raise InputError(f"{path} names no host")
    names = [host.name for host in hosts]
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"{path} names {doubled} twice; give it more workers instead")
    return hosts


def _host(where: str, words: list[str], tunnel: bool) -> Host:
    name, *options = words
    if name.startswith("-"):
        raise InputError(f"{where}: {name!r} is no host name")
    given = {}
    for option in options:
        key, equals, value = option.partition("=")
        if key not in _OPTIONS or not equals or not value or key in given:
            raise InputError(
                f"{where}: {option!r:.60} must be one of {', '.join(f'{key}=...' for key in _OPTIONS)}, once"
            )
        given[key] = value
    if "workers" in given:
        if not given["workers"].isdecimal():
            raise InputError(f"{where}: workers={given['workers']:.20} must be a number")
        given["workers"] = int(given["workers"])
    if tunnel:
        given["address"] = LOOPBACK
    else:
        given["address"] = _address(where, name, given.get("address"))
    return Host(name=name, **given)


def _address(where: str, name: str, text: str | None) -> str:
    """The IPv4 address that others reach the host at."""
    if text is None and name == LOCAL:
        raise InputError(f"{where}: {LOCAL} needs address=..., at which the other hosts reach it; or give --tunnel")
    try:
        address = ipaddress.IPv4Address(socket.gethostbyname(text or name.rpartition("@")[2]))
    except (OSError, ValueError) as error:
        raise InputError(f"{where}: {text or name} has no IPv4 address ({error}); give address=...") from None
    if address.is_unspecified or address.is_multicast or (address.is_loopback and name != LOCAL):
        raise InputError(f"{where}: other hosts cannot reach {name} at {address}; give its own address by address=...")
    if address.is_global:
        raise InputError(
            f"{where}: {address} is a public address, and whoever reaches a parameter server can change the weights; "
            "name a private one by address=..., or give --tunnel"
        )
    return str(address)


def place(hosts: list[Host], workers: int | None, servers: int) -> list[tuple[str, Host]]:
    """The processes and their hosts: the scheduler and the first worker on the first, servers in turn.

    Raises:
        InputError: the numbers contradict each other.
    """
    fixed = [host.workers for host in hosts if host.workers is not None]
    if len(fixed) == len(hosts):
        if workers not in (None, sum(fixed)):
            raise InputError(f"--workers {workers}: the host file has {sum(fixed)} workers; drop --workers")
        counts = fixed
    else:
        if fixed:
            raise InputError("the host file gives some hosts workers=N, and others none; give all or none")
        if workers is None:
            raise InputError("--workers N is needed: the host file does not say how many workers a host has")
        counts = [workers // len(hosts) + (i < workers % len(hosts)) for i in range(len(hosts))]
    if not counts[0]:
        raise InputError(f"host {hosts[0].name}: the first host must have a worker; it keeps the run's files")
    found = [("scheduler", hosts[0])]
    found += [(f"server {i}", hosts[i % len(hosts)]) for i in range(servers)]
    owners = [host for host, count in zip(hosts, counts, strict=True) for _ in range(count)]
    return found + [(f"worker {rank}", host) for rank, host in enumerate(owners)]
