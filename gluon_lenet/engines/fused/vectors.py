"""Python functions that write LLVM instructions -> register tiles that Numba can call.

A *tile* is a piece of straight-line code (with a loop or two around it) whose intermediate results all stay in the
processor's vector registers. Numba alone cannot promise that: it leaves loops to LLVM's auto-vectorizer, which takes
more than twice the time on these convolutions. So the tiles name their vectors: one vector holds the same number of
`LANES` images, and the functions in `tiles.py` say which vectors are loaded, multiplied and stored.

    @tile
    def add_rows(count: Int, memory: Floats, a: Int, b: Int):   # a[i] += b[i] for `count` vectors
        with loop(count) as i:
            memory.store(a + i * LANES, memory.load(a + i * LANES) + memory.load(b + i * LANES))

Inside a tile every `Int` and every vector is a `Value`: Python's operators on it write the instruction. A `NamedTuple`
of such kinds is a parameter, too: what belongs together.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable
from contextlib import contextmanager
from typing import get_type_hints

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from gluon_lenet.engines.fused.sizes import FEATURES, LANES

_F32, _I8, _I32, _I64 = ir.FloatType(), ir.IntType(8), ir.IntType(32), ir.IntType(64)
_VECTOR, _VECTOR_I8, _VECTOR_I32 = (ir.VectorType(element, LANES) for element in (_F32, _I8, _I32))

# The lanes a0 b0 a1 b1 ... of two vectors a and b: those of their lower halves, those of their upper halves.
_INTERLEAVED = [[lane for i in range(h, h + LANES // 2) for lane in (i, LANES + i)] for h in (0, LANES // 2)]

_builder: ir.IRBuilder | None = None  # of the tile being written; Numba compiles one function at a time, under a lock


class Value:
    """An LLVM value, an int64 or a vector, with Python's operators."""

    def __init__(self, llvm):
        self.llvm = llvm

    @property
    def _is_float(self) -> bool:
        return getattr(self.llvm.type, "element", self.llvm.type) == _F32

    def _lift(self, other) -> ir.Value:
        """`other`, a Value or a Python number, as an LLVM value of this one's type."""
        if isinstance(other, Value):
            return other.llvm
        if isinstance(self.llvm.type, ir.VectorType):
            element = float(np.float32(other)) if self._is_float else int(other)
            return ir.Constant(self.llvm.type, [element] * self.llvm.type.count)
        return ir.Constant(self.llvm.type, other)

    def __add__(self, other):
        return Value((_builder.fadd if self._is_float else _builder.add)(self.llvm, self._lift(other)))

    def __sub__(self, other):
        return Value((_builder.fsub if self._is_float else _builder.sub)(self.llvm, self._lift(other)))

    def __rsub__(self, other):
        return Value((_builder.fsub if self._is_float else _builder.sub)(self._lift(other), self.llvm))

    def __mul__(self, other):
        return Value((_builder.fmul if self._is_float else _builder.mul)(self.llvm, self._lift(other)))

    def __truediv__(self, other):
        return Value(_builder.fdiv(self.llvm, self._lift(other)))

    def __rtruediv__(self, other):
        return Value(_builder.fdiv(self._lift(other), self.llvm))

    def __floordiv__(self, other):
        return Value(_builder.sdiv(self.llvm, self._lift(other)))

    def __and__(self, other):
        return Value(_builder.and_(self.llvm, self._lift(other)))

    def __xor__(self, other):
        return Value(_builder.xor(self.llvm, self._lift(other)))

    def shifted_right(self, count):
        """Integer lanes without their lowest `count` bits; zeros come in above."""
        return Value(_builder.lshr(self.llvm, self._lift(count)))

    def is_below(self, other):
        """The integer lanes less than the other's, both without a sign."""
        return Value(_builder.icmp_unsigned("<", self.llvm, self._lift(other)))

    def __lshift__(self, other):
        return Value(_builder.shl(self.llvm, self._lift(other)))

    def __abs__(self):
        return _call("llvm.fabs", self)

    def __neg__(self):
        return Value(_builder.fneg(self.llvm))

    def _compare(self, operator, other):
        compare = _builder.fcmp_ordered if self._is_float else _builder.icmp_signed
        return Value(compare(operator, self.llvm, self._lift(other)))

    def __gt__(self, other):
        return self._compare(">", other)

    def __lt__(self, other):
        return self._compare("<", other)

    def where(self, mask, other):
        """This value in the lanes of `mask`, `other` in the rest."""
        return Value(_builder.select(mask.llvm, self.llvm, self._lift(other)))

    def times_plus(self, factor, summand):
        """`self * factor + summand`, rounded once where the processor can."""
        return _call("llvm.fmuladd", self, factor, summand)

    def rounded(self):
        """Each lane's nearest whole number, as a float."""
        return _call("llvm.rint", self)

    def to_int(self):
        """Each lane as an int32, towards zero."""
        return Value(_builder.fptosi(self.llvm, _VECTOR_I32))

    def bits_as_float(self):
        """int32 lanes, read as the bits of floats."""
        return Value(_builder.bitcast(self.llvm, _VECTOR))

    def widened(self):
        """uint8 lanes as int32."""
        return Value(_builder.zext(self.llvm, _VECTOR_I32))

    def bytes_to_float(self):
        """uint8 lanes as floats 0 to 255."""
        return Value(_builder.sitofp(_builder.zext(self.llvm, _VECTOR_I32), _VECTOR))

    def shuffled(self, other, lanes):
        """A vector that takes its lanes, by number, from this one (0 to LANES-1) and `other` (from LANES on)."""
        return Value(_builder.shuffle_vector(self.llvm, other.llvm, ir.Constant(_VECTOR_I32, list(lanes))))


def _call(name, *operands):
    vector_type = operands[0].llvm.type
    function = cgutils.get_or_insert_function(
        _builder.module,
        ir.FunctionType(vector_type, [vector_type] * len(operands)),
        f"{name}.v{LANES}f32",
    )
    return Value(_builder.call(function, [operands[0]._lift(operand) for operand in operands]))


def _call_processor(name, vector, index):
    """An instruction of the processor's own: a vector and an int32 vector -> a vector."""
    function = cgutils.get_or_insert_function(_builder.module, ir.FunctionType(_VECTOR, [_VECTOR, _VECTOR_I32]), name)
    return Value(_builder.call(function, [vector.llvm, index.llvm]))


def vector(number: float) -> Value:
    """The same number in every lane."""
    return Value(ir.Constant(_VECTOR, [float(np.float32(number))] * LANES))


def byte_vector(number: int) -> Value:
    """The same uint8 in every lane."""
    return Value(ir.Constant(_VECTOR_I8, [number] * LANES))


def integers(number: Value) -> Value:
    """The lowest 32 bits of an int64 in every lane."""
    return _in_every_lane(_builder.trunc(number.llvm, _I32))


def lane_numbers() -> Value:
    """The numbers of the lanes: 0 to LANES - 1."""
    return Value(ir.Constant(_VECTOR_I32, list(range(LANES))))


def _in_every_lane(number) -> Value:
    """An LLVM float or int32 -> a vector of it."""
    undefined = ir.Constant(ir.VectorType(number.type, LANES), ir.Undefined)
    first = _builder.insert_element(undefined, number, ir.Constant(_I32, 0))
    return Value(_builder.shuffle_vector(first, undefined, ir.Constant(_VECTOR_I32, [0] * LANES)))


def transposed(rows: list[Value]) -> list[Value]:
    """LANES vectors -> LANES vectors, rows and columns exchanged, by log2(LANES) rounds of perfect shuffles."""
    for _ in range(int(math.log2(LANES))):
        half = LANES // 2
        rows = [a.shuffled(b, lanes) for a, b in zip(rows[:half], rows[half:], strict=True) for lanes in _INTERLEAVED]
    return rows


def sums_of_lanes(rows: list[Value]) -> Value:
    """LANES vectors -> one vector: lane i is the sum of the lanes of rows[i]."""
    low, high = _INTERLEAVED
    while len(rows) > 1:  # each round halves the number of vectors, and of lanes still to be added up
        half = len(rows) // 2
        pairs = zip(rows[:half], rows[half:], strict=True)
        rows = [a.shuffled(b, low) + a.shuffled(b, high) for a, b in pairs]
    return rows[0]


class Variable:
    """A vector that changes in a loop; LLVM keeps it in a register."""

    def __init__(self, value: Value):
        self._slot = cgutils.alloca_once(_builder, value.llvm.type)
        self.set(value)

    def get(self) -> Value:
        """Its value now."""
        return Value(_builder.load(self._slot))

    def set(self, value: Value):
        """Give it a value."""
        _builder.store(value.llvm, self._slot)

    def add_product(self, a: Value, b: Value):
        """variable += a * b."""
        self.set(a.times_plus(b, self.get()))


@contextmanager
def loop(stop, start=0):
    """`with loop(n) as i:` writes the body once, as a loop over i = start ... n - 1; both bounds int64 or numbers."""
    start, stop = (bound.llvm if isinstance(bound, Value) else ir.Constant(_I64, bound) for bound in (start, stop))
    with cgutils.for_range_slice(_builder, start, stop, ir.Constant(_I64, 1), _I64) as (index, _):
        yield Value(index)


# --- kinds of parameters ----------------------------------------------------------------------------------------------


class Choice:
    """A parameter that is one of a few numbers, each of which makes a tile of its own: in the tile a Python number.

    Where the caller gives a constant, the tile is written for that alone, whether it is among `numbers` or not; else
    for all of `numbers`, with an LLVM switch in front. There the last one stands for whatever is not among them.
    """

    def __init__(self, numbers: Iterable[int]):
        self.numbers = tuple(dict.fromkeys(numbers))


class Int:
    """A parameter known at run time: in the tile a `Value`."""


class Float:
    """A float32 known at run time: in the tile a vector with it in every lane."""


class _Memory:
    """Memory that a tile reads and writes; offsets count elements, and need no alignment."""

    element = None

    def __init__(self, pointer):
        self._pointer = pointer

    def _at(self, offset, element_type):
        offset = offset.llvm if isinstance(offset, Value) else ir.Constant(_I64, offset)
        pointer = _builder.gep(self._pointer, [offset])
        return _builder.bitcast(pointer, element_type.as_pointer())

    def load(self, offset) -> Value:
        """The LANES elements from `offset` on."""
        return Value(_builder.load(self._at(offset, ir.VectorType(self.element, LANES)), align=1))

    def store(self, offset, value: Value):
        """Write the LANES elements from `offset` on."""
        _builder.store(value.llvm, self._at(offset, ir.VectorType(self.element, LANES)), align=1)


class Floats(_Memory):
    """A one-dimensional float32 array."""

    element = _F32

    def broadcast(self, offset) -> Value:
        """One float, in every lane."""
        return _in_every_lane(_builder.load(self._at(offset, _F32)))

    def look_up(self, offset, index: Value) -> Value:
        """Lane by lane one of the 16 floats from `offset` on: the one whose number, 0 to 15, `index` has there."""
        if LANES == 16:
            return _call_processor("llvm.x86.avx512.permvar.sf.512", self.load(offset), index)
        if "+avx2" in FEATURES:  # picks from 8 floats, by the lowest 3 bits
            low, high = (_call_processor("llvm.x86.avx2.permps", self.load(offset + i), index) for i in (0, 8))
            return high.where((index & 8) > 0, low)
        table, result = self._at(offset, _F32), ir.Constant(_VECTOR, ir.Undefined)
        for lane in range(LANES):
            lane = ir.Constant(_I32, lane)
            number = _builder.load(_builder.gep(table, [_builder.extract_element(index.llvm, lane)]))
            result = _builder.insert_element(result, number, lane)
        return Value(result)

    def bytes_at(self, offset) -> Bytes:
        """The same memory from `offset` on, as bytes."""
        return Bytes(self._at(offset, _I8))


class Bytes(_Memory):
    """uint8 numbers."""

    element = _I8


class Ints:
    """A one-dimensional int64 array."""

    def __init__(self, pointer):
        self._pointer = pointer

    def number(self, offset) -> Value:
        """One of its numbers."""
        return Value(_builder.load(_builder.gep(self._pointer, [ir.Constant(_I64, offset)])))


class Address:
    """An int64 that is the address of memory; the tile turns it into `Floats` or `Bytes`."""

    def __init__(self, llvm):
        self._llvm = llvm

    def floats(self) -> Floats:
        """The memory as floats."""
        return Floats(_builder.inttoptr(self._llvm, _F32.as_pointer()))

    def bytes(self) -> Bytes:
        """The memory as bytes."""
        return Bytes(_builder.inttoptr(self._llvm, _I8.as_pointer()))


def _cases(number, numbers):
    """`for n in _cases(number, numbers):` writes the body once for each n, behind an LLVM switch on the int64."""
    cases = [(n, _builder.append_basic_block(f"case{n}")) for n in numbers]
    behind = _builder.append_basic_block("behind")
    *_, (_, default) = cases
    switch = _builder.switch(number, default)
    for n, block in cases:
        if block is not default:
            switch.add_case(ir.Constant(_I64, n), block)
        _builder.position_at_end(block)
        yield n
        _builder.branch(behind)
    _builder.position_at_end(behind)


def _write(body, kinds, operands):
    """Write a tile's instructions, once for each combination of the choices that are open."""
    for i, kind in enumerate(kinds):
        if isinstance(kind, Choice) and not isinstance(operands[i], int):
            for number in _cases(operands[i], kind.numbers):
                _write(body, kinds, [*operands[:i], number, *operands[i + 1 :]])
            return
    body(*operands)


def tile(body):
    """Make a function that writes LLVM instructions callable from Numba's functions; see the module's docstring."""
    kinds = [parameter.annotation for parameter in inspect.signature(body, eval_str=True).parameters.values()]
    numbers = {Int: types.int64, Address: types.int64, Float: types.float32}

    def type_of(kind, argument):
        if isinstance(kind, Choice) and not isinstance(argument, types.Literal):
            return types.int64
        return numbers.get(kind, argument)

    def operand(context, builder, kind, numba_type, value):
        if isinstance(kind, Choice):
            return numba_type.literal_value if isinstance(numba_type, types.Literal) else value
        if isinstance(numba_type, types.BaseNamedTuple):
            values = cgutils.unpack_tuple(builder, value)
            fields = zip(get_type_hints(kind).values(), numba_type, values, strict=True)
            return kind(*(operand(context, builder, *each) for each in fields))
        if kind in (Floats, Ints):
            return kind(context.make_array(numba_type)(context, builder, value).data)
        return {Int: Value, Float: _in_every_lane, Address: Address}[kind](value)

    def typer(typing_context, *arguments):
        signature = types.void(*map(type_of, kinds, arguments))

        def generate(context, builder, signature, values):
            global _builder
            outer, _builder = _builder, builder
            try:
                operands = zip(kinds, signature.args, values, strict=True)
                _write(body, kinds, [operand(context, builder, *each) for each in operands])
            finally:
                _builder = outer
            return context.get_dummy_value()

        return signature, generate

    typer.__name__ = body.__name__
    context = inspect.Parameter("typing_context", inspect.Parameter.POSITIONAL_ONLY)
    typer.__signature__ = inspect.Signature([context, *inspect.signature(body).parameters.values()])
    made = intrinsic(prefer_literal=True)(typer)
    made.__doc__ = body.__doc__
    return made
