"""$LENET_CLOSED, $LENET_WRITABLE -> a kernel that cannot read the closed folders and writes only to the writable ones.

It cannot start, kill or connect to other programs either. The kernel runs this file before a student's first cell. The
file installs an audit hook, which Python code cannot remove, and which stops what a student would try: `open`, `!cat`,
`subprocess`, `os.kill`, downloads. It is not a sandbox: C code called through ctypes bypasses it.
"""


def _restrict():
    import os
    import sys

    def folders(variable):
        return tuple(os.path.join(os.path.realpath(folder), "") for folder in os.environ[variable].split(os.pathsep))

    closed, writable = folders("LENET_CLOSED"), (*folders("LENET_WRITABLE"), os.path.join(os.devnull, ""))
    fsdecode, join, realpath, write_flags = os.fsdecode, os.path.join, os.path.realpath, os.O_WRONLY | os.O_RDWR
    forbidden = {"os.exec", "os.fork", "os.forkpty", "os.kill", "os.killpg", "os.posix_spawn", "os.system"}
    forbidden |= {"pty.spawn", "socket.connect", "socket.sendto", "subprocess.Popen"}
    reading = {"os.chdir", "os.listdir", "os.scandir"}
    writing = {"os.chmod", "os.chown", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink"}
    writing |= {"os.truncate", "os.utime"}

    def hook(event, args):
        if event in forbidden:
            raise PermissionError(1, f"批改时不允许 {event}")
        if event == "open":
            paths, writes = args[:1], args[2] & write_flags
        elif event in writing or event in reading:
            paths, writes = args[:2], event in writing
        else:
            return
        for path in paths:
            if isinstance(path, (str, bytes, os.PathLike)):
                path = join(realpath(fsdecode(path)), "")
                if path.startswith(closed):
                    raise PermissionError(1, "批改时不允许访问", path)
                if writes and not path.startswith(writable):
                    raise PermissionError(1, "批改时只能写当前目录", path)

    sys.addaudithook(hook)


_restrict()
del _restrict
