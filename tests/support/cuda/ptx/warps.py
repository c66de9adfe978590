"""What the threads of a warp or block do together: shuffles, votes, barriers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .decoding import Decoder, opcode, spread
from .errors import Divergence
from .syntax import Pair
from .types import PREDICATE, TYPES

U32 = TYPES["u32"]
_LANES = np.arange(32)


def _position(run, active):
    """Where each thread of the grid stands among the active ones, -1 if it does not. One more entry is for threads
    beyond the grid."""
    position = np.full(run.threads + 32, -1)
    position[active.ids] = np.arange(active.size)
    return position


def _check_mask(run, active, mask, position):
    """Every lane that a mask names must be here with the same mask, and each must name itself."""
    lane = run.lane_of[active.index]
    named = (mask[:, None] >> _LANES.astype(np.uint32) & np.uint32(1)).astype(np.bool_)
    # The lanes beyond the block's last thread are not there to be waited for.
    first = run.thread_of[active.index] - lane
    inside = first[:, None] + _LANES < run.block_threads
    at = position[run.warp_start[active.index][:, None] + _LANES]
    missing = (named & inside & (at < 0)).any(axis=1) | ~named[np.arange(active.size), lane]
    missing |= (named & (at >= 0) & (mask[at] != mask[:, None])).any(axis=1)
    if missing.any():
        error = Divergence("the mask names lanes that do not execute this together")
        error.first = int(np.argmax(missing))
        raise error


@opcode("shfl")
def _shfl(code):
    code.count(5)
    if code.modifiers not in [("sync", mode, "b32") for mode in ("up", "down", "bfly", "idx")]:
        raise code.unknown("modifier")
    mode = code.modifiers[1]
    target = code.operands[0]
    first, second = (target.first, target.second) if isinstance(target, Pair) else (target, None)
    write = code.write(first)
    write_inside = None if second is None else code.write(second, PREDICATE)
    read_value = code.read(1)
    reads = [code.read(i, U32) for i in (2, 3, 4)]

    def execute(run, active):
        value = spread(read_value(run, active), active)
        b, c, mask = (spread(read(run, active), active) for read in reads)
        position = _position(run, active)
        _check_mask(run, active, mask, position)
        lane, b, segment = run.lane_of[active.index], (b & 31).astype(np.int64), (c >> 8 & 31).astype(np.int64)
        low = lane & segment
        limit = low | ((c & 31).astype(np.int64) & ~segment)
        source = {"up": lane - b, "down": lane + b, "bfly": lane ^ b, "idx": low | (b & ~segment)}[mode]
        inside = source >= limit if mode == "up" else source <= limit
        source = np.where(inside, source, lane)
        at = position[run.warp_start[active.index] + source]
        named = mask >> source.astype(np.uint32) & np.uint32(1)
        beyond = run.thread_of[active.index] - lane + source >= run.block_threads
        if (bad := (at < 0) | (named == 0) | beyond).any():
            error = Divergence("a shuffle from a lane that is not active")
            error.first = int(np.argmax(bad))
            raise error
        write(run, active, value[at])
        if write_inside:
            write_inside(run, active, inside)

    return execute


def _ballot(run, active, value):
    """For each active thread, the bits of its warp's active lanes for which `value` holds."""
    bits = np.zeros(run.warp_times.size, np.uint32)
    warp = run.warp_of[active.index]
    lane = np.uint32(1) << run.lane_of[active.index].astype(np.uint32)
    np.bitwise_or.at(bits, warp, np.where(value, lane, np.uint32(0)))
    return bits[warp]


@opcode("vote")
def _vote(code):
    code.count(3)
    kinds = {("sync", kind, "pred"): kind for kind in ("any", "all", "uni")} | {("sync", "ballot", "b32"): "ballot"}
    kind = kinds.get(code.modifiers)
    if kind is None:
        raise code.unknown("modifier")
    read, read_mask = code.read(1, PREDICATE), code.read(2, U32)
    write = code.write(0)

    def execute(run, active):
        value = spread(read(run, active), active)
        mask = spread(read_mask(run, active), active)
        _check_mask(run, active, mask, _position(run, active))
        yes, no = _ballot(run, active, value) & mask, _ballot(run, active, ~value) & mask
        results = {"ballot": yes, "any": yes != 0, "all": no == 0, "uni": (yes == 0) | (no == 0)}
        write(run, active, results[kind])

    return execute


@opcode("activemask")
def _activemask(code):
    code.count(1)
    if code.modifiers != ("b32",):
        raise code.unknown("modifier")
    write = code.write(0)
    return lambda run, active: write(run, active, _ballot(run, active, np.ones(active.size, np.bool_)))


@dataclass
class Barrier:
    """`kind` is sync, popc, and or or, the latter three with a predicate of each thread and one result for all."""

    kind: str
    of_warp: bool
    read: object
    write: object

    def synchronise_warp(self, run, active):
        """bar.warp.sync, of the threads that are here."""
        mask = spread(self.read(run, active), active)
        _check_mask(run, active, mask, _position(run, active))
        run.warp_times[np.unique(run.warp_of[active.index])] += 1

    def release(self, run, active):
        """All threads of these blocks have arrived."""
        if self.kind == "sync":
            return
        value = spread(self.read(run, active), active).reshape(-1, run.block_threads)
        of_block = {"popc": value.sum(axis=1), "and": value.all(axis=1), "or": value.any(axis=1)}[self.kind]
        dtype = np.uint32 if self.kind == "popc" else np.bool_
        self.write(run, active, np.repeat(of_block.astype(dtype), run.block_threads))


def decode_barrier(instruction, base, program):
    """bar.sync 0, bar.red....pred 0, bar.warp.sync: barriers of all threads of a block or of lanes of a warp."""
    code = Decoder(instruction, base, program)
    words = tuple(x for x in instruction.modifiers if x not in ("cta", "aligned"))
    if words == ("warp", "sync"):
        code.count(1)
        return Barrier("sync", True, code.read(0, U32), None)
    at = 0 if words == ("sync",) else 1
    if getattr(instruction.operands[at] if len(instruction.operands) > at else None, "value", None) != 0:
        raise code.unknown("barrier")
    if words == ("sync",):
        code.count(1)
        return Barrier("sync", False, None, None)
    kinds = {("red", "popc", "u32"): U32, ("red", "and", "pred"): PREDICATE, ("red", "or", "pred"): PREDICATE}
    if words not in kinds:
        raise code.unknown("barrier")
    code.count(3)
    return Barrier(words[1], False, code.read(2, PREDICATE), code.write(0, kinds[words]))
