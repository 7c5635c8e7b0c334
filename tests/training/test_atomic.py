"""atomic.py: atomic writes, to every kind of file, and reads."""

import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from conftest import module_env
from gluon_lenet import atomic
from gluon_lenet.atomic import read_regular, write_atomically, write_output
from gluon_lenet.errors import DiskError, InputError


@pytest.fixture
def unix_socket(tmp_path):
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        yield path


def test_a_new_file_has_the_permissions_of_the_umask_and_an_old_one_keeps_its_own(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "new", b"1")
    finally:
        os.umask(before)
    (tmp_path / "old").touch(0o600)
    write_atomically(tmp_path / "old", b"1")
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("new", "old")] == [0o640, 0o600]
    assert sorted(os.listdir(tmp_path)) == ["new", "old"]


def test_threads_that_write_one_file_leave_one_of_their_versions(tmp_path):
    """With a common temporary name they would write to each other's file, and find it deleted."""
    path, errors = tmp_path / "file", []

    def write(k):
        try:
            for _ in range(20):
                write_atomically(path, bytes([k]) * 100_000)
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    data = path.read_bytes()
    assert (len(data), len(set(data))) == (100_000, 1)
    assert os.listdir(tmp_path) == ["file"]


def test_standard_output_is_written_into():
    code = "from gluon_lenet.atomic import write_atomically; write_atomically('/dev/stdout', bytes(range(256)) * 1000)"
    process = subprocess.run([sys.executable, "-c", code], env=module_env(), capture_output=True, timeout=60)
    assert process.returncode == 0, process.stderr
    assert process.stdout == bytes(range(256)) * 1000, "more than a pipe holds"


def test_a_reader_that_does_not_read_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "PATIENCE", 0.1)
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(DiskError, match="fifo cannot be written: its reader took nothing for"):
            write_atomically(tmp_path / "fifo", bytes(10**6))
    finally:
        os.close(reader)


def test_what_cannot_be_written_or_read_is_named(unix_socket, tmp_path):
    for path in (tmp_path, unix_socket):
        with pytest.raises(InputError, match=f"{path} cannot be written: it is a"):
            write_atomically(path, b"1")
        with pytest.raises(InputError, match=f"{path} cannot be read: "):
            read_regular(path, 10)
    with pytest.raises(DiskError, match="nowhere/file cannot be written: No such file or directory"):
        write_atomically(tmp_path / "nowhere" / "file", b"1")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(DiskError, match="loop cannot be written: Too many levels of symbolic links"):
        write_atomically(tmp_path / "loop", b"1")
    assert (tmp_path / "loop").is_symlink()
    assert unix_socket.is_socket()


def test_an_output_that_cannot_be_named_so_is_bad_input(tmp_path):
    """A wrong path of the user's is no failure of the disk."""
    (tmp_path / "loop").symlink_to("loop")
    for path, why in (
        (tmp_path / "nowhere" / "file", "there is no folder"),
        (tmp_path / "loop", "Too many levels of symbolic links"),
        (tmp_path / ("x" * 300), "File name too long"),
        (Path("/proc/self/file"), "No such file or directory"),
    ):
        with pytest.raises(InputError, match=f"{path} cannot be written: {why}"):
            write_output(path, b"1")
    with pytest.raises(DiskError, match="No space left on device"):
        write_output("/dev/full", b"1")


def test_a_file_may_have_so_many_bytes_and_no_more(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    assert read_regular(tmp_path / "file", 5) == b"12345"
    with pytest.raises(InputError, match="file has 5 bytes; such a file has at most 4"):
        read_regular(tmp_path / "file", 4)


def test_an_open_file_is_written_into_and_not_replaced(tmp_path):
    """`params export ... /dev/stdout >> log` replaced the log."""
    code = "import sys; from gluon_lenet.atomic import write_atomically; write_atomically(sys.argv[1], b'new')"
    log, link = tmp_path / "log", tmp_path / "link"
    link.symlink_to("/dev/stdout")
    for path in ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", link):
        log.write_text("old ")
        with log.open("a") as file:
            subprocess.run([sys.executable, "-c", code, path], env=module_env(), stdout=file, check=True, timeout=60)
        assert log.read_text() == "old new"
    with pytest.raises(DiskError, match="/dev/fd/999 cannot be written: Bad file descriptor"):
        write_atomically("/dev/fd/999", b"1")
    assert sorted(tmp_path.iterdir()) == [link, log]
    with (tmp_path / "gone").open("w+b") as file:
        (tmp_path / "gone").unlink()
        write_atomically(f"/dev/fd/{file.fileno()}", b"1")
        file.seek(0)
        assert file.read() == b"1"
    assert sorted(tmp_path.iterdir()) == [link, log]
