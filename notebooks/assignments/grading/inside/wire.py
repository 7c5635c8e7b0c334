"""Plain values <-> bytes on a pipe between two processes that do not trust each other. Values cross, objects don't.

What crosses: None, bool, int of 64 bits, float, str, bytes, list, tuple, dict with such keys, and arrays of numbers.
The sender turns what it has into these (`pack`: an np.int64 is an int, a subclass of tuple a tuple, an NDArray an
array); the receiver builds every value anew, of exactly these types (`unpack`), whatever the bytes are. Nothing is
unpickled.

A message is a msgpack map, with its length before it in 4 bytes.
"""

from __future__ import annotations

import math
import os
import select
import struct
import time

import msgspec
import numpy as np

MAX_MESSAGE = 4 << 20  # bytes
MAX_DEPTH = 20
MAX_ITEMS = 200_000  # of lists, tuples and dictionaries in one value
MAX_KEYS = 1_000  # of a dictionary: looking up tuples that were made to have the same hash takes time squared
DTYPES = {f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)}
DTYPES |= {"bool", "float16", "float32", "float64"}
_LENGTH = struct.Struct(">I")


class WireError(Exception):
    """A value that cannot cross, or bytes that are no value."""


class Ended(Exception):
    """The other process has closed the pipe."""


class Late(Exception):
    """The other process did not answer in time."""


def pack(value: object, depth: int = 0) -> object:
    """What msgpack can hold of a value; raises WireError if it is of a kind that does not cross."""
    if depth > MAX_DEPTH:
        raise WireError("nested too deeply")
    if value is None or value is True or value is False:
        return value
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return bool(value)
    if isinstance(value, int):
        value = int(value)
        if not -(2**63) <= value < 2**63:
            raise WireError("an integer of more than 64 bits")
        return value
    for kind in (float, str, bytes):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, list | tuple):
        tag = "list" if isinstance(value, list) else "tuple"
        return [tag, [pack(item, depth + 1) for item in value]]
    if isinstance(value, dict):
        return ["dict", [[pack(key, depth + 1), pack(item, depth + 1)] for key, item in value.items()]]
    if not isinstance(value, np.ndarray) and callable(getattr(value, "asnumpy", None)):  # MXNet's NDArray
        value = value.asnumpy()
    if isinstance(value, np.ndarray):
        array = np.ascontiguousarray(value)
        if array.dtype.name not in DTYPES:
            raise WireError(f"an array of {array.dtype.name}")
        array = array.astype(array.dtype.newbyteorder("<"))
        return ["array", [array.dtype.name, [int(n) for n in value.shape], array.tobytes()]]
    raise WireError(f"a value of type {type(value).__name__}")


def unpack(packed: object) -> object:
    """The value of what `pack` has made, of plain types only; raises WireError for anything else."""
    return _unpack(packed, 0, [MAX_ITEMS])


def _unpack(packed, depth, left):
    if packed is None or type(packed) in (bool, int, float, str, bytes):
        return packed
    if depth > MAX_DEPTH or type(packed) is not list or len(packed) != 2 or type(packed[1]) is not list:
        raise WireError("no value")
    tag, content = packed
    if tag == "array":
        return _unpack_array(content)
    left[0] -= len(content)
    if left[0] < 0:
        raise WireError("too many items")
    if tag == "list":
        return [_unpack(item, depth + 1, left) for item in content]
    if tag == "tuple":
        return tuple(_unpack(item, depth + 1, left) for item in content)
    if tag != "dict" or any(type(pair) is not list or len(pair) != 2 for pair in content):
        raise WireError("no value")
    if len(content) > MAX_KEYS:
        raise WireError(f"a dictionary of more than {MAX_KEYS:,} keys")
    try:
        return {_unpack(key, depth + 1, left): _unpack(item, depth + 1, left) for key, item in content}
    except TypeError:
        raise WireError("a key that is no plain value") from None


def _unpack_array(content):
    if (
        len(content) != 3
        or type(content[0]) is not str
        or type(content[1]) is not list
        or type(content[2]) is not bytes
    ):
        raise WireError("no array")
    name, shape, data = content
    if name not in DTYPES or len(shape) > 8 or any(type(n) is not int or not 0 <= n <= MAX_MESSAGE for n in shape):
        raise WireError("no array")
    dtype = np.dtype(name)
    if math.prod(shape) * dtype.itemsize != len(data):
        raise WireError("an array of another size")
    return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype).reshape(shape)


class Pipe:
    """Messages to and from another process, over two file descriptors; neither reading nor writing waits for ever."""

    def __init__(self, reads: int, writes: int):
        self.reads, self.writes = reads, writes
        for number in (reads, writes):
            os.set_blocking(number, False)

    def send(self, message: dict, deadline: float = math.inf) -> None:
        """Write a message; `deadline` is in seconds of `time.monotonic()`. Raises Ended, Late, WireError."""
        data = msgspec.msgpack.encode(message)
        if len(data) > MAX_MESSAGE:
            raise WireError(f"more than {MAX_MESSAGE >> 20} MiB")
        rest = memoryview(_LENGTH.pack(len(data)) + data)
        while rest:
            self._wait(self.writes, select.POLLOUT, deadline)
            try:
                rest = rest[os.write(self.writes, rest) :]
            except BlockingIOError:
                continue
            except OSError:
                raise Ended from None

    def receive(self, deadline: float = math.inf) -> dict:
        """The next message. Raises Ended, Late, and WireError for bytes that are no message."""
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size, deadline))
        if length > MAX_MESSAGE:
            raise WireError("a message that is too long")
        try:
            message = msgspec.msgpack.decode(self._read(length, deadline))
        except (msgspec.DecodeError, RecursionError, ValueError):
            raise WireError("bytes that are no message") from None
        if type(message) is not dict or any(type(key) is not str for key in message):
            raise WireError("bytes that are no message")
        return message

    def _read(self, number: int, deadline: float) -> bytes:
        parts = []
        while number:
            self._wait(self.reads, select.POLLIN, deadline)
            try:
                part = os.read(self.reads, min(number, 1 << 16))
            except BlockingIOError:
                continue
            except OSError:
                raise Ended from None
            if not part:
                raise Ended
            parts.append(part)
            number -= len(part)
        return b"".join(parts)

    @staticmethod
    def _wait(number: int, event: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(number, event)
        seconds = deadline - time.monotonic()
        if seconds <= 0 or not poll.poll(None if math.isinf(seconds) else max(1, 1000 * seconds)):
            raise Late
