"""The first program inside the fence: limits, caches, an identity without rights; then it becomes the worker.

    python -I -S enter.py '{"command": [...], "limits": {...}, ...}'

It needs nothing but Python. The fence is around it already, except for `unshare`, whose file system it makes (root.py).
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import root
import seccomp


def main() -> None:
    """Become the program that the argument names; its standard streams stay what they are."""
    order = json.loads(sys.argv[1])
    if order["root"]:
        root.enter(order["root"])
    if order["guard"]:
        _guard_the_namespace()
    if order["core"] is not None:
        os.sched_setaffinity(0, {order["core"]})
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # if the machine runs out of memory, this goes first
    for name, value in order["limits"].items():
        number = getattr(resource, name)
        resource.setrlimit(number, (value, value))
    for source, target in order["copies"]:
        if os.path.isdir(source):
            shutil.copytree(source, target)
    os.makedirs(order["home"], exist_ok=True)
    root.forbid_rights()
    if order["user"] is not None:  # root: the limit on processes does not hold for it
        for folder in (order["home"], *(target for _, target in order["copies"])):
            _hand_over(folder, order["user"])
        os.setgroups([])
        os.setresgid(*[order["user"]] * 3)
        os.setresuid(*[order["user"]] * 3)
    root.drop_rights()
    os.chdir(order["home"])
    os.umask(0o077)
    if order["filter"]:
        seccomp.install()
    os.closerange(3, 256)
    os.execv(order["command"][0], order["command"])


def _guard_the_namespace() -> None:
    """Stay as the first process of the PID namespace, which ends with it, and go on in a child.

    The kernel kills the first process when whoever started it ends; the student's process could decline that. Nor can
    it reach into this one, which no filter holds: its memory is closed even to its own user.
    """
    root.open_memory(False)
    child = os.fork()
    if child:
        os.close(0)
        os.close(1)
        done, status = 0, 0
        while done != child:
            done, status = os.wait()
        os._exit(1 if status else 0)
    root.open_memory(True)


def _hand_over(folder: str, user: int) -> None:
    for path, folders, files in os.walk(folder):
        for name in (path, *(os.path.join(path, name) for name in folders + files)):
            os.chown(name, user, user, follow_symlinks=False)


if __name__ == "__main__":
    main()
