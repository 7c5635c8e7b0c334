"""Addresses -> arrays and counters that compiled functions share."""

from __future__ import annotations

from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

FLOAT32, FLOAT64, UINT8, INT32, INT64 = types.float32, types.float64, types.uint8, types.int32, types.int64


@intrinsic
def _pointer(typing_context, element, address):
    """An int64 as a pointer to elements of a Numba type."""

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[1], context.get_value_type(signature.return_type))

    return types.CPointer(element.instance_type)(element, types.int64), generate


@njit
def at_address(element, address, count):
    """The `count` elements at an address, as an array."""
    return carray(_pointer(element, address), (count,))


@intrinsic
def count_up(typing_context, counters, number):
    """Add 1 to the int64 `number` of those at an address; returns it as it was, to no two threads the same."""

    def generate(context, builder, signature, arguments):
        int64 = context.get_value_type(types.int64)
        pointer = builder.gep(builder.inttoptr(arguments[0], int64.as_pointer()), [arguments[1]])
        return builder.atomic_rmw("add", pointer, int64(1), "acq_rel")

    return types.int64(types.int64, types.int64), generate


@intrinsic
def count_of(typing_context, counters, number):
    """The int64 `number` of those at an address, as other threads have left it; to be called in a loop that waits."""

    def generate(context, builder, signature, arguments):
        int64 = context.get_value_type(types.int64)
        pointer = builder.gep(builder.inttoptr(arguments[0], int64.as_pointer()), [arguments[1]])
        if "x86" in builder.module.triple:  # leaves the core's other hardware thread more to do
            pause = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(ir.VoidType(), []), "llvm.x86.sse2.pause"
            )
            builder.call(pause, [])
        return builder.load_atomic(pointer, ordering="acquire", align=8)

    return types.int64(types.int64, types.int64), generate


@njit
def fill(memory, start, count, number):
    """Write a number `count` times."""
    part = memory[start : start + count]  # an index into a part is never negative, so LLVM can use vectors
    for i in range(count):
        part[i] = number


@njit
def copy(source, target):
    """Copy an array to another of the same size."""
    for i in range(target.size):
        target[i] = source[i]


@njit
def copy_numbers(memory, address, count, target):
    """`count` floats from an address, if it is not 0, to target."""
    if address != 0:
        numbers = at_address(FLOAT32, address, count)
        for i in range(count):
            memory[target + i] = numbers[i]


@njit
def fitting(sizes, left):
    """The largest of a tile's sizes, in descending order down to 1, that is at most `left`, which is at least 1."""
    for size in sizes:
        if size <= left:
            return size
    return 1


@njit(inline="always")
def whole_vectors(count, lanes):
    """`count`, rounded up to a multiple of `lanes`."""
    return (count + lanes - 1) // lanes * lanes
