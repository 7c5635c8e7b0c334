"""What workers, agents and the launcher tell each other: JSON, one object a line."""

from __future__ import annotations

import msgspec

BEAT = b"\x1e"  # begins a line in which a worker reports; ASCII's record separator


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's report."""

    rank: int
    state: str  # what it does, `Gang.state`
    seconds: float  # for how long
    epoch: int
    batch: int  # done in this epoch
    num_batches: int  # of an epoch
    num_epochs: int


class Start(msgspec.Struct, frozen=True, tag="start"):
    """To an agent: start this process."""

    name: str  # "worker 0"
    command: list[str]
    environment: dict[str, str]


class Hold(msgspec.Struct, frozen=True, tag="hold"):
    """To an agent: bind ports of an address, and keep them bound until the end."""

    address: str
    ports: list[int]  # 0: any free one


class End(msgspec.Struct, frozen=True, tag="end"):
    """To an agent: end all processes, and yourself."""


class Here(msgspec.Struct, frozen=True, tag="here"):
    """To and from an agent, every second: I am alive."""


class Held(msgspec.Struct, frozen=True, tag="held"):
    """From an agent: the ports that it holds, or why it could not."""

    ports: list[int]
    error: str = ""


class Started(msgspec.Struct, frozen=True, tag="started"):
    """From an agent: the process runs."""

    name: str
    pid: int


class Line(msgspec.Struct, frozen=True, tag="line"):
    """From an agent: a process printed this."""

    name: str
    text: str
    is_error: bool = False  # on stderr


class Beaten(msgspec.Struct, frozen=True, tag="beat"):
    """From an agent: a worker's report."""

    name: str
    beat: Beat


class Stopped(msgspec.Struct, frozen=True, tag="stopped"):
    """From an agent: the process was stopped by a signal, and not continued."""

    name: str


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """From an agent: the process has ended; negative for a signal."""

    name: str
    status: int


ToAgent = Start | Hold | End | Here
FromAgent = Held | Started | Line | Beaten | Stopped | Ended | Here
