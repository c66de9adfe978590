"""atom and red: one thread after another, in the order of their numbers."""

from __future__ import annotations

import numpy as np

from . import memory as global_memory
from .data_movement import read_address, space_of
from .decoding import opcode, spread
from .errors import PTXError
from .types import PREDICATE, unsigned

# What is written, of the old value and the operands.
_OPERATIONS = {
    "add": lambda old, x: old + x,
    "and": lambda old, x: old & x,
    "or": lambda old, x: old | x,
    "xor": lambda old, x: old ^ x,
    "exch": lambda old, x: x,
    "min": min,
    "max": max,
    "cas": lambda old, compare, x: x if old == compare else old,
    "inc": lambda old, x: old.dtype.type(0) if old >= x else old + old.dtype.type(1),
    "dec": lambda old, x: x if old == 0 or old > x else old - old.dtype.type(1),
}
_TYPES = {
    "add": ("u32", "s32", "u64", "f32", "f64"),
    "and": ("b32", "b64"),
    "or": ("b32", "b64"),
    "xor": ("b32", "b64"),
    "exch": ("b32", "b64"),
    "cas": ("b32", "b64"),
    "min": ("u32", "s32", "u64", "s64"),
    "max": ("u32", "s32", "u64", "s64"),
    "inc": ("u32",),
    "dec": ("u32",),
}
_ORDERS = ("relaxed", "acquire", "release", "acq_rel", "cta", "gpu", "sys")


@opcode("atom", "red")
def _atomic(code):
    with_result = code.instruction.opcode == "atom"
    space, words = space_of(code, *_OPERATIONS, *_ORDERS)
    names = [x for x in words if x in _OPERATIONS]
    if len(names) != 1 or code.type is PREDICATE:
        raise code.unknown("modifier")
    code.expect(*_TYPES[names[0]])
    sources = code.operands[with_result + 1 :]
    if len(sources) != (2 if names[0] == "cas" else 1):
        raise code.unknown("operands")
    address = read_address(code, code.operands[int(with_result)], space)
    reads = [code.read(each) for each in sources]
    write = code.write(0) if with_result else None
    operation, size, dtype = _OPERATIONS[names[0]], code.type.size, code.type.dtype
    bits = unsigned(code.type.bits).dtype

    def execute(run, active):
        own, at = address(run, active)
        values = [spread(read(run, active), active) for read in reads]
        load, store = _cells(run, active, own, spread(at.view(np.int64), active), size)
        before = np.empty(active.size, dtype)
        for i in range(active.size):
            old = load(i).view(dtype)
            before[i : i + 1] = old
            new = operation(old[0], *(value[i] for value in values))
            store(i, np.array([new], dtype).view(bits))
        if write:
            write(run, active, before)

    return execute


def _cells(run, active, space, address, size):
    """Functions that load and store the cell of the i-th active thread."""
    if space == "global":
        real, _ = run.memory.locate(address, size, True)
        return (
            lambda i: global_memory.load(real[i : i + 1], size),
            lambda i, value: global_memory.store(real[i : i + 1], value),
        )
    if space != "shared":
        raise PTXError(f"an atomic operation in {space} memory")
    shared = run.shared
    place = shared.locate(address, size, run.block_of[active.index])
    shared.note_atomics(place, size, active.ids, run.warp_of[active.index], run.warp_times[run.warp_of[active.index]])
    return (
        lambda i: shared.load(place[i : i + 1], size, 1)[0],
        lambda i, value: shared.store(place[i : i + 1], [value]),
    )
