"""The environment variables of a gang's processes: those of ps-lite, DMLC_*, and our own."""

from __future__ import annotations

import os
from collections.abc import Mapping

from gluon_lenet.errors import InputError
from gluon_lenet.training.config import GangConfig

RANK = "GLUON_LENET_RANK"  # of a worker; without it, ps-lite's, in the order in which the workers come
LAUNCHED = "GLUON_LENET_LAUNCHED"  # set in a process that a launcher watches
RESTARTED = "GLUON_LENET_RESTARTED"  # set after a failure: the run's directory may hold a checkpoint
ROLES = ("scheduler", "server", "worker")
_NUMBERS = ("DMLC_PS_ROOT_PORT", "DMLC_NUM_WORKER", "DMLC_NUM_SERVER")


def config_of(environment: Mapping[str, str], kvstore: str, compression: str | None) -> GangConfig:
    """What the environment says of the gang; raises InputError if it lacks something."""
    names = ("DMLC_ROLE", "DMLC_PS_ROOT_URI", *_NUMBERS)
    if lacking := [name for name in names if not environment.get(name)]:
        raise InputError(
            f"--kvstore {kvstore}: the environment lacks {', '.join(lacking)}; python -m gluon_lenet.launch sets them "
            "(docs/distributed.md)"
        )
    if environment["DMLC_ROLE"] not in ROLES:
        raise InputError(f"DMLC_ROLE is {environment['DMLC_ROLE']!r:.40}; choose from {', '.join(ROLES)}")
    for name in _NUMBERS:
        if not (environment[name].isdecimal() and 0 < int(environment[name]) < 65536):
            raise InputError(f"{name} is {environment[name]!r:.40}; it must be a number from 1 to 65535")
    return GangConfig(int(environment["DMLC_NUM_WORKER"]), kvstore, compression)


def rank_of(environment: Mapping[str, str]) -> int | None:
    """The rank that the environment chooses for this worker; None if it does not."""
    text = environment.get(RANK)
    if text is None:
        return None
    if not (text.isdecimal() and int(text) < int(environment["DMLC_NUM_WORKER"])):
        raise InputError(f"{RANK} is {text!r:.40}; it must be a number below DMLC_NUM_WORKER")
    return int(text)


def is_restarted() -> bool:
    """Whether the launcher has started the gang again."""
    return RESTARTED in os.environ


def is_launched() -> bool:
    """Whether a launcher watches this process."""
    return LAUNCHED in os.environ
