"""Plain values cross the pipe as they are, everything else becomes plain or does not cross, whatever the bytes are."""

import os
import threading
import time
from collections import OrderedDict, namedtuple

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet import nd

from grading.inside import wire

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text() | st.integers(0, 2**63 - 1), inner)
    ),
    max_leaves=20,
)
PACKED = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=5) | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(st.sampled_from(["list", "tuple", "dict", "array"]), inner | st.lists(inner)).map(list)
        | st.tuples(st.just("array"), st.tuples(st.sampled_from(sorted(wire.DTYPES)), inner, inner).map(list)).map(list)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=20,
)


def crossed(value):
    """What arrives of a value."""
    return wire.unpack(msgspec.msgpack.decode(msgspec.msgpack.encode(wire.pack(value))))


def types(value):
    """The types of a value and of all in it."""
    if isinstance(value, dict):
        return [type(value), [(types(k), types(v)) for k, v in value.items()]]
    return [type(value), [types(item) for item in value]] if isinstance(value, list | tuple) else [type(value)]


@given(PLAIN)
@settings(max_examples=60, deadline=None)
def test_plain_values_arrive_unchanged(value):
    assert crossed(value) == value
    assert types(crossed(value)) == types(value)


@given(PACKED)
@settings(max_examples=150, deadline=None)
def test_whatever_the_bytes_are_a_plain_value_or_an_error_comes_out(packed):
    try:
        value = wire.unpack(packed)
    except wire.WireError:
        return

    def check(value):
        kind = type(value)
        assert kind in (type(None), bool, int, float, str, bytes, list, tuple, dict, np.ndarray)
        for item in value.items() if kind is dict else value if kind in (list, tuple) else ():
            check(item)
        assert kind is not np.ndarray or value.dtype.name in wire.DTYPES

    check(value)


def test_relatives_of_plain_values_become_plain():
    class Int(int):
        __eq__ = lambda self, other: True  # noqa: E731
        __hash__ = int.__hash__

    pair = namedtuple("Pair", "a b")
    for value, want in (
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.float32(0.5), 0.5),
        (Int(7), 7),
        (pair(1, Int(2)), (1, 2)),
        (OrderedDict(a=np.str_("x")), {"a": "x"}),
    ):
        assert crossed(value) == want
        assert types(crossed(value)) == types(want)
    array = crossed(nd.array([[1, 2]]))
    assert type(array) is np.ndarray
    assert array.tolist() == [[1, 2]]
    for dtype in sorted(wire.DTYPES):
        array = np.arange(6).reshape(2, 3).astype(dtype)
        assert (crossed(array[:, ::-1]) == array[:, ::-1]).all()
        assert crossed(array).dtype == array.dtype
    assert crossed(np.ones(())).shape == ()


def test_what_cannot_cross_is_named():
    endless = []
    endless.append(endless)
    for value, message in (
        (2**64, "64 bits"),
        (object(), "type object"),
        ({1, 2}, "type set"),
        (np.array([object()]), "array of object"),
        (np.array(["x"]), "array of str"),
        (endless, "too deeply"),
        (lambda: 0, "type function"),
    ):
        with pytest.raises(wire.WireError, match=message):
            wire.pack(value)


def pipes():
    """A pipe and the other end's two descriptors."""
    (reads, far_writes), (far_reads, writes) = os.pipe(), os.pipe()
    return wire.Pipe(reads, writes), far_reads, far_writes


def test_a_pipe_never_waits_for_ever():
    pipe, far_reads, far_writes = pipes()
    start = time.monotonic()
    with pytest.raises(wire.Late):
        pipe.receive(start + 0.2)
    with pytest.raises(wire.Late):
        pipe.send({"x": b"0" * 10**6}, start + 0.4)  # nobody reads
    os.write(far_writes, b"\0\0\0\x08abc")  # and no more
    with pytest.raises(wire.Late):
        pipe.receive(start + 0.6)
    assert time.monotonic() - start < 5
    os.close(far_writes)
    with pytest.raises(wire.Ended):
        pipe.receive(time.monotonic() + 5)
    os.close(far_reads)


@pytest.mark.parametrize(
    "data",
    [b"\xff\xff\xff\xff", b"\0\0\0\x01\xc1", b"\0\0\0\x01\x05", b"\0\0\0\x03\x81\x01\x02", b"\0\0\0\x02\xd4\x05"],
)
def test_bytes_that_are_no_message(data):
    pipe, _, far_writes = pipes()
    os.write(far_writes, data)
    with pytest.raises(wire.WireError):
        pipe.receive(time.monotonic() + 5)


def test_long_messages_cross_both_ways():
    pipe, far_reads, far_writes = pipes()
    far = wire.Pipe(far_reads, far_writes)
    message = {"id": 1, "value": b"x" * (3 << 20)}
    thread = threading.Thread(target=lambda: far.send(far.receive()))
    thread.start()
    pipe.send(message)
    assert pipe.receive(time.monotonic() + 30) == message
    thread.join()
    with pytest.raises(wire.WireError, match="4 MiB"):
        pipe.send({"value": b"x" * (5 << 20)})


def test_a_dictionary_cannot_be_made_slow():
    keys = [["tuple", [number, number]] for number in range(wire.MAX_KEYS + 1)]
    with pytest.raises(wire.WireError, match="1,000 keys"):
        wire.unpack(["dict", [[key, 1] for key in keys]])
    assert len(wire.unpack(["dict", [[key, 1] for key in keys[1:]]])) == wire.MAX_KEYS
