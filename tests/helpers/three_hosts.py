"""Three hosts as network namespaces of this machine, with ssh between them; needs root, `ip` and sshd."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from conftest import ROOT

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
NUM_HOSTS = 3


def why_not() -> str | None:
    """Why this machine cannot have them; None if it can."""
    if os.geteuid() != 0 or sys.platform != "linux":
        return "network namespaces need root on Linux"
    if SSHD is None or shutil.which("ip") is None:
        return "there is no sshd or no ip (Debian: apt install openssh-server iproute2)"
    if subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode:
        return "this machine allows no network namespaces"
    return None


class ThreeHosts:
    """Hosts `one`, `two` and `three` at 10.77.0.1 to 10.77.0.3, which reach each other and nothing else.

    Args:
        folder: of keys and configuration.

    Attributes:
        ssh: the command that `one` reaches the others with; it knows their keys.
    """

    names = ("one", "two", "three")

    def __init__(self, folder: Path):
        self.folder, self.prefix = folder, f"gl{os.getpid()}"
        self.ssh = f"ssh -F {folder / 'ssh_config'}"
        self._stack = ExitStack()

    def __enter__(self) -> ThreeHosts:
        Path("/run/sshd").mkdir(exist_ok=True)
        for key in ("user", "host"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / key)
        public = (self.folder / "host.pub").read_text().split()[:2]
        addresses = [f"10.77.0.{number}" for number in range(1, NUM_HOSTS + 1)]
        (self.folder / "known_hosts").write_text("".join(f"{a} {' '.join(public)}\n" for a in addresses))
        (self.folder / "ssh_config").write_text(
            "".join(f"Host {name}\n  HostName {a}\n" for name, a in zip(self.names, addresses, strict=True))
            + "Host stranger\n  HostName 10.77.0.2\n  UserKnownHostsFile /dev/null\n"
            + "Host gone\n  HostName 10.77.0.99\n"
            + f"Host *\n  User root\n  IdentityFile {self.folder / 'user'}\n"
            + f"  UserKnownHostsFile {self.folder / 'known_hosts'}\n  StrictHostKeyChecking yes\n"
        )
        (self.folder / "sshd_config").write_text(
            f"HostKey {self.folder / 'host'}\nAuthorizedKeysFile {self.folder / 'user.pub'}\nStrictModes no\n"
            "PermitRootLogin yes\nPidFile none\nUsePAM no\nAllowTcpForwarding yes\n"
        )
        bridge = f"{self.prefix}b"
        run("ip", "link", "add", bridge, "type", "bridge")
        self._stack.callback(run, "ip", "link", "del", bridge)
        run("ip", "link", "set", bridge, "up")
        for name, address in zip(self.names, addresses, strict=True):
            space, link = self.space(name), f"{self.prefix}{name[:2]}"
            run("ip", "netns", "add", space)
            self._stack.callback(run, "ip", "netns", "del", space)
            run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", space)
            run("ip", "link", "set", link, "master", bridge, "up")
            for words in (f"addr add {address}/24 dev eth0", "link set eth0 up", "link set lo up"):
                run("ip", "-n", space, *words.split())
            sshd = subprocess.Popen([*self.inside(name), SSHD, "-D", "-f", self.folder / "sshd_config"])
            self._stack.callback(sshd.wait)
            self._stack.callback(sshd.kill)
        for name in self.names[1:]:
            for _ in range(50):
                done = subprocess.run([*self.inside("one"), *self.ssh.split(), name, "true"], capture_output=True)
                if done.returncode == 0:
                    break
                time.sleep(0.1)
            else:
                raise AssertionError(done.stderr)
        return self

    def __exit__(self, *exception) -> None:
        for name in self.names:
            for pid in self.processes(name):
                subprocess.run(["kill", "-KILL", str(pid)])
        self._stack.close()

    def space(self, name: str) -> str:
        """The network namespace of a host."""
        return f"{self.prefix}{name}"

    def inside(self, name: str) -> list[str]:
        """What a command on a host begins with."""
        return ["ip", "netns", "exec", self.space(name)]

    def processes(self, name: str) -> dict[int, str]:
        """What runs on a host, without sshd."""
        found = {}
        for pid in subprocess.run(
            ["ip", "netns", "pids", self.space(name)], capture_output=True, text=True
        ).stdout.split():
            try:
                command = Path("/proc", pid, "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if command and "sshd" not in command:
                found[int(pid)] = command
        return found

    def listening(self, name: str) -> set[str]:
        """The addresses and ports of a host that others can reach."""
        lines = run(*self.inside(name), "cat", "/proc/net/tcp", "/proc/net/tcp6").splitlines()
        words = [line.split() for line in lines]
        found = {word[1] for word in words if len(word) > 3 and word[3] == "0A"}
        return {place for place in found if not place.startswith("0100007F:")}

    def cut(self, name: str) -> None:
        """Cut the network of a host."""
        run("ip", "-n", self.space(name), "link", "set", "eth0", "down")

    def host_file(self, text: str) -> Path:
        """A host file; every host works in the checkout."""
        lines = [f"{line} python={sys.executable} directory={ROOT}" for line in text.strip().splitlines()]
        path = self.folder / "hosts"
        path.write_text("\n".join(lines) + "\n")
        return path


def run(*command) -> str:
    """The output of a command that must succeed."""
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout
