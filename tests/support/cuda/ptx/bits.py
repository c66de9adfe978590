"""Operations on bits: logic, shifts, fields, counts, permutation of bytes."""

from __future__ import annotations

import numpy as np

from .decoding import opcode
from .types import PREDICATE, TYPES, UNSIGNED, unsigned

U32 = TYPES["u32"]


@opcode("and", "or", "xor")
def _logic(code):
    code.count(3)
    code.only()
    code.expect("pred", "b16", "b32", "b64")
    return code.compute({"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}[code.instruction.opcode])


@opcode("not")
def _not(code):
    code.count(2)
    code.only()
    code.expect("pred", "b16", "b32", "b64")
    return code.compute(np.invert)


@opcode("shl", "shr")
def _shift(code):
    code.count(3)
    code.only()
    left = code.instruction.opcode == "shl"
    code.expect(*(("b16", "b32", "b64") if left else ("b16", "b32", "b64", "u16", "u32", "u64", "s16", "s32", "s64")))
    read_value, read_count, write = code.read(1), code.read(2, U32), code.write()
    bits, dtype, signed = code.type.bits, code.type.dtype, code.type.is_signed

    def execute(run, active):
        value, count = read_value(run, active), read_count(run, active)
        # NumPy leaves shifts by the width open, PTX does not: they shift all bits out.
        short = np.minimum(count, np.uint32(bits - 1)).astype(dtype)
        result = value << short if left else value >> short
        if not signed:
            result = np.where(count >= bits, dtype.type(0), result)
        write(run, active, result)

    return execute


@opcode("shf")
def _funnel_shift(code):
    code.count(4)
    direction, mode, *_ = code.modifiers
    if code.modifiers not in [(d, m, "b32") for d in "lr" for m in ("wrap", "clamp")]:
        raise code.unknown("modifier")

    def shift(low, high, count):
        count = (count & np.uint32(31) if mode == "wrap" else np.minimum(count, np.uint32(32))).astype(np.uint64)
        both = high.astype(np.uint64) << np.uint64(32) | low
        return (both << count >> np.uint64(32) if direction == "l" else both >> count).astype(np.uint32)

    return code.compute(shift)


@opcode("lop3")
def _lop3(code):
    code.count(5)
    code.only()
    code.expect("b32")
    table = code.operands[4].value
    read, write = [code.read(i) for i in (1, 2, 3)], code.write()

    def execute(run, active):
        a, b, c = (each(run, active) for each in read)
        result = np.zeros(1, np.uint32)
        for bit in range(8):
            if table >> bit & 1:
                result = result | ((a if bit & 4 else ~a) & (b if bit & 2 else ~b) & (c if bit & 1 else ~c))
        write(run, active, result)

    return execute


def _ones(count, dtype):
    """That many bits from the lowest on; all of them for the width or more."""
    bits = dtype.itemsize * 8
    some = (dtype.type(1) << np.where(count >= bits, 0, count).astype(dtype)) - dtype.type(1)
    return np.where(count >= bits, ~dtype.type(0), some)


def _field(code, start, length):
    """A function that reads start and length of a bit field, of which PTX takes eight bits each."""
    read_start, read_length = code.read(start, U32), code.read(length, U32)

    def read(run, active):
        start, length = read_start(run, active), read_length(run, active)
        return (start & np.uint32(255)).astype(np.int64), (length & np.uint32(255)).astype(np.int64)

    return read


def _shifted_right(value, count):
    bits = value.dtype.itemsize * 8
    return np.where(count >= bits, value.dtype.type(0), value >> np.minimum(count, bits - 1).astype(value.dtype))


@opcode("bfe")
def _bit_field_extract(code):
    code.count(4)
    code.only()
    code.expect("u32", "s32", "u64", "s64")
    bits, dtype, signed = code.type.bits, UNSIGNED[code.type.bits], code.type.is_signed
    read_value, read_field, write = code.read(1, unsigned(bits)), _field(code, 2, 3), code.write()

    def execute(run, active):
        value, (start, length) = read_value(run, active), read_field(run, active)
        field = _shifted_right(value, start) & _ones(length, dtype)
        if signed:
            # The sign is the field's last bit, or the value's where the field ends beyond it: it fills all above.
            end = np.minimum(start + length, bits)
            negative = (_shifted_right(value, np.maximum(end - 1, 0)) & dtype.type(1) != 0) & (length > 0)
            field = np.where(negative, field | ~_ones(np.maximum(end - start, 0), dtype), field)
        write(run, active, field.view(code.type.dtype))

    return execute


@opcode("bfi")
def _bit_field_insert(code):
    code.count(5)
    code.only()
    code.expect("b32", "b64")
    bits, dtype = code.type.bits, code.type.dtype
    read_value, read_into, read_field, write = code.read(1), code.read(2), _field(code, 3, 4), code.write()

    def execute(run, active):
        value, into, (start, length) = read_value(run, active), read_into(run, active), read_field(run, active)
        shift = np.minimum(start, bits - 1).astype(dtype)
        mask = np.where(start >= bits, dtype.type(0), _ones(length, dtype) << shift)
        write(run, active, into & ~mask | value << shift & mask)

    return execute


def bit_length(value):
    """How many bits a number needs; 0 for 0."""
    length = np.zeros(value.shape, np.uint32)
    for step in (32, 16, 8, 4, 2, 1):
        if step * 2 > value.dtype.itemsize * 8:
            continue
        high = value >> value.dtype.type(step)
        found = high != 0
        length = length + np.where(found, np.uint32(step), np.uint32(0))
        value = np.where(found, high, value)
    return length + (value != 0).astype(np.uint32)


def _reverse(value):
    bits = value.dtype.itemsize * 8
    result = np.zeros_like(value)
    for bit in range(bits):
        result |= (value >> value.dtype.type(bit) & value.dtype.type(1)) << value.dtype.type(bits - 1 - bit)
    return result


@opcode("clz", "popc", "brev")
def _count(code):
    code.count(2)
    code.only()
    code.expect("b32", "b64")
    bits = code.type.bits
    if code.instruction.opcode == "brev":
        return code.compute(_reverse)
    if code.instruction.opcode == "clz":
        return code.compute(lambda a: np.uint32(bits) - bit_length(a), code.type, U32)
    return code.compute(lambda a: np.bitwise_count(a).astype(np.uint32), code.type, U32)


@opcode("prmt")
def _permute_bytes(code):
    code.count(4)
    code.only()
    code.expect("b32")

    def permute(a, b, selector):
        both = b.astype(np.uint64) << np.uint64(32) | a
        result = np.zeros(1, np.uint32)
        for j in range(4):
            choice = selector >> np.uint32(4 * j)
            byte = (both >> (choice & np.uint32(7)).astype(np.uint64) * np.uint64(8)).astype(np.uint32) & np.uint32(255)
            # With the fourth bit, the byte's sign eight times.
            sign = np.where(byte & np.uint32(128), np.uint32(255), np.uint32(0))
            result = result | np.where(choice & np.uint32(8), sign, byte) << np.uint32(8 * j)
        return result

    return code.compute(permute)


@opcode("selp")
def _select(code):
    code.count(4)
    code.only()
    if code.type is PREDICATE or code.type.bits < 16:
        raise code.unknown("type")
    read_yes, read_no, read_choice, write = code.read(1), code.read(2), code.read(3, PREDICATE), code.write()

    def execute(run, active):
        choice = read_choice(run, active)
        write(run, active, np.where(choice, read_yes(run, active), read_no(run, active)))

    return execute
