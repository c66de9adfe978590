"""ld, st, mov and addresses."""

from __future__ import annotations

import numpy as np

from . import memory as global_memory
from .decoding import LOCAL_BASE, PARAM_BASE, SHARED_BASE, opcode, spread
from .errors import Misaligned, OutOfBounds, PTXError, Race
from .syntax import Address, Discarded, Immediate, Register, Variable, Vector
from .types import PREDICATE, TYPES, UNSIGNED, unsigned

U64 = TYPES["u64"]
_SPACES = ("global", "shared", "local", "param", "const")
_BASES = {"global": np.uint64(0), "const": np.uint64(0)}
_BASES |= {"shared": SHARED_BASE, "local": LOCAL_BASE, "param": PARAM_BASE}
# Hints and orders of memory. Steps are executed one after another by all threads, so each order is kept.
_ORDERS = ("weak", "volatile", "relaxed", "acquire", "release", "cta", "gpu", "sys")
_LOAD_HINTS = ("ca", "cg", "cs", "lu", "cv", "nc", "L1::no_allocate", "L1::evict_first", "L1::evict_last", "L2::128B")
_STORE_HINTS = ("wb", "cg", "cs", "wt", "L1::no_allocate", "L1::evict_first", "L1::evict_last")


def space_of(code, *others):
    """The space that an instruction names, or None for the generic one, and its other modifiers."""
    words = code.only(*_SPACES, "shared::cta", *others)
    spaces = [x.removesuffix("::cta") for x in words if x in _SPACES or x == "shared::cta"]
    if len(spaces) > 1:
        raise code.unknown("space")
    return (spaces[0] if spaces else None), [x for x in words if x in others]


def read_address(code, operand, space):
    """A function of (run, active) that gives the space and the addresses in it, of one element or of all."""
    if not isinstance(operand, Address):
        raise code.unknown("address")
    base, offset = operand.base, np.array([operand.offset % 2**64], np.uint64)
    if isinstance(base, Variable):
        address = code.address_of(base)
        own = "global" if base.space == "const" else base.space
        if space not in (None, base.space):
            raise code.unknown("space")
        return lambda run, active: (own, address(run, active) + offset)
    if isinstance(base, Register) and base.type.bits != 64 and space in (None, "global", "const"):
        raise code.unknown("a narrow address")
    if not isinstance(base, (Register, Immediate)):
        raise code.unknown("address")
    kind = unsigned(base.type.bits) if isinstance(base, Register) else U64
    read = code.read(base, kind)
    if space is not None:
        own = "global" if space == "const" else space
        return lambda run, active: (own, read(run, active).astype(np.uint64) + offset)

    def generic(run, active):
        address = read(run, active) + offset
        window = address >> np.uint64(56)
        if (window != window[0]).any():
            raise NotImplementedError(f"one instruction in several spaces: {code.instruction.text}")
        own = {1: "shared", 2: "local", 3: "param"}.get(int(window[0]), "global")
        return own, address - _BASES[own]

    return generic


def _elements(code, operand):
    """The registers of a vector, or the one."""
    words = [x for x in code.modifiers if x in ("v2", "v4")]
    elements = operand.elements if isinstance(operand, Vector) else (operand,)
    if len(elements) != (int(words[0][1]) if words else 1):
        raise code.unknown("vector")
    return elements


def load_any(run, active, space, address, size, count, read_only=False):
    """`count` arrays of elements of `size` bytes, each of one element or of all active threads."""
    width = size * count
    address = address.view(np.int64)
    if space == "global":
        real, place = run.memory.locate(address, width, False)
        if read_only and (bad := run.writes.written(place, width)).any():
            error = Race("ld.nc of memory that this launch has written")
            error.first = int(np.argmax(bad))
            raise error
        return [global_memory.load(real + j * size, size) for j in range(count)]
    if space == "param":
        return _load_parameter(run, address, size, count)
    owned, owner = (run.shared, run.block_of) if space == "shared" else (run.local, run.everyone.ids)
    address = spread(address, active)
    place = owned.locate(address, width, owner[active.index])
    if space == "shared":
        note_shared(run, active, place, width, False)
    return owned.load(place, size, count)


def store_any(run, active, space, address, values):
    """Stores arrays of unsigned integers, one after another at each address."""
    size = values[0].dtype.itemsize
    width = size * len(values)
    address = spread(address.view(np.int64), active)
    if space == "global":
        real, place = run.memory.locate(address, width, True)
        run.writes.note(spread(place, active), width, active.ids)
        for j, value in enumerate(values):
            global_memory.store(real + j * size, value)
        return
    if space == "param":
        raise PTXError("a store to the parameters of a kernel")
    owned, owner = (run.shared, run.block_of) if space == "shared" else (run.local, run.everyone.ids)
    place = owned.locate(address, width, owner[active.index])
    if space == "shared":
        note_shared(run, active, place, width, True)
    owned.store(place, values)


def note_shared(run, active, place, width, stores):
    """Looks for races of shared memory."""
    warp = run.warp_of[active.index]
    run.shared.note(place, width, active.ids, warp, run.warp_times[warp], stores)


def _load_parameter(run, address, size, count):
    width = size * count
    if (bad := (address & (width - 1)) != 0).any():
        error = Misaligned(f"{width}-byte load at {int(address[np.argmax(bad)])} of the parameters")
    elif (bad := (address < 0) | (address + width > run.parameters.size)).any():
        error = OutOfBounds(f"{width}-byte load at {int(address[np.argmax(bad)])} of the parameters")
    else:
        view = run.parameters[: run.parameters.size // size * size].view(f"u{size}")
        return [view[address // size + j] for j in range(count)]
    error.first = int(np.argmax(bad))
    raise error


@opcode("ld", "ldu")
def _ld(code):
    code.count(2)
    space, words = space_of(code, *_ORDERS, *_LOAD_HINTS, "v2", "v4")
    elements = _elements(code, code.operands[0])
    writes = [code.write(each) for each in elements]
    address = read_address(code, code.operands[1], space)
    size, count, dtype, read_only = code.type.size, len(elements), code.type.dtype, "nc" in words

    def execute(run, active):
        own, at = address(run, active)
        values = load_any(run, active, own, at, size, count, read_only)
        for write, value in zip(writes, values, strict=True):
            write(run, active, value.view(dtype))

    return execute


@opcode("st")
def _st(code):
    code.count(2)
    space, _ = space_of(code, *_ORDERS, *_STORE_HINTS, "v2", "v4")
    kind = unsigned(code.type.bits)
    reads = [_read_stored(code, each, kind) for each in _elements(code, code.operands[1])]
    address = read_address(code, code.operands[0], space)

    def execute(run, active):
        own, at = address(run, active)
        store_any(run, active, own, at, [read(run, active) for read in reads])

    return execute


def _read_stored(code, operand, kind):
    """A constant is written in the type of the store, a register by its lowest bits."""
    if isinstance(operand, Immediate) and operand.kind != "integer":
        read = code.read(operand, code.type)
        return lambda run, active: read(run, active).view(kind.dtype)
    return code.read(operand, kind, wider=True)


@opcode("mov")
def _mov(code):
    code.count(2)
    code.only()
    target, source = code.operands
    kind = code.type
    if kind.bits == 8 or kind.kind == "bfloat":
        raise code.unknown("type")
    if isinstance(source, Vector):
        return _pack(code, source.elements)
    if isinstance(target, Vector):
        return _unpack(code, target.elements)
    read, write = code.read(1), code.write(0)
    return lambda run, active: write(run, active, read(run, active))


def _part(code, elements):
    if code.type.kind != "bits" or len(elements) not in (2, 4) or code.type.bits // len(elements) < 16:
        raise code.unknown("type")
    return unsigned(code.type.bits // len(elements))


def _pack(code, elements):
    part, full = _part(code, elements), UNSIGNED[code.type.bits]
    reads, write = [code.read(each, part) for each in elements], code.write(0)

    def execute(run, active):
        value = np.zeros(1, full)
        for j, read in enumerate(reads):
            value = value | read(run, active).astype(full) << full.type(part.bits * j)
        write(run, active, value)

    return execute


def _unpack(code, elements):
    part, full = _part(code, elements), UNSIGNED[code.type.bits]
    read, writes = code.read(1), [code.write(each, part) for each in elements]
    wanted = [(j, write) for j, (each, write) in enumerate(zip(elements, writes, strict=True))]
    wanted = [pair for pair, each in zip(wanted, elements, strict=True) if not isinstance(each, Discarded)]

    def execute(run, active):
        value = read(run, active)
        for j, write in wanted:
            write(run, active, (value >> full.type(part.bits * j)).astype(part.dtype))

    return execute


@opcode("cvta")
def _cvta(code):
    code.count(2)
    space, words = space_of(code, "to")
    code.expect("u64")
    if space is None:
        raise code.unknown("space")
    base = _BASES[space]
    if words:
        return code.compute(lambda address: address - base)
    return code.compute(lambda address: address + base)


@opcode("isspacep")
def _isspacep(code):
    code.count(2)
    space = code.modifiers[0] if len(code.modifiers) == 1 else None
    windows = {"global": 0, "shared": 1, "local": 2, "param": 3}
    if space not in windows:
        raise code.unknown("space")
    read, write = code.read(1, U64), code.write(0, PREDICATE)
    window = np.uint64(windows[space])
    return lambda run, active: write(run, active, read(run, active) >> np.uint64(56) == window)


@opcode("prefetch", "prefetchu", "membar", "fence", "nanosleep")
def _nothing_to_do(code):
    """Of these nothing is seen where each step is finished before the next."""
    known = ("global", "local", "L1", "L2", "cta", "gl", "gpu", "sys", "sc", "acq_rel", "u32")
    code.only(*known, types=0)
    return lambda run, active: None
