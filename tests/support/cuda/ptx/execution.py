"""Launches a kernel: all threads of the grid at once, by groups that stand at the same step."""

from __future__ import annotations

import math

import numpy as np

from .block_memory import OwnMemory, SharedMemory
from .errors import Divergence, PTXError
from .float_rounding import default_environment
from .program import Program
from .threads import Active, Registers
from .types import PREDICATE
from .write_record import WriteRecord

WARP = 32
# What the exact software of NVRTC (pow, log, division) begins with and then refines: see `floating_point.py`.
REFINED_APPROXIMATIONS = frozenset({"rcp.approx.ftz.f64"})
# Steps of one group of threads. A kernel that spins on a flag that nobody sets ends with an error.
_MAX_STEPS = 5_000_000
# From PTX 8.1 on; older drivers take 4096.
_MAX_PARAMETER_BYTES = 32764


class Kernel:
    """A kernel of a module, ready for launches.

    `parameters` are its parameters with offset, size and alignment in bytes.
    """

    def __init__(self, module, name):
        self.name = name
        self.module = module
        self.program = Program(module, name)

    @property
    def parameters(self):
        return self.program.kernel.parameters

    @property
    def parameter_bytes(self):
        """The size of all parameters together."""
        return self.program.kernel.sizes["param"]

    @property
    def shared_size(self):
        """Bytes of shared memory a block that the kernel declares itself."""
        return self.program.shared_size

    @property
    def max_threads(self):
        """Of __launch_bounds__, or None."""
        return self.program.kernel.max_threads


def launch(
    kernel, grid, block, arguments, memory, dynamic_shared=0, approximations=REFINED_APPROXIMATIONS, counts=None
):
    """Runs a kernel to its end.

    Args:
      kernel: a `Kernel`.
      grid, block: numbers of blocks, and of threads a block: an int or up to three.
      arguments: for each parameter bytes, or a NumPy scalar or array, of exactly the parameter's size.
      memory: a `Memory` with all that the pointers point to.
      dynamic_shared: bytes of shared memory a block beyond what the kernel declares.
      approximations: instructions without one right result, such as "ex2.approx.ftz.f32", that may be executed.
      counts: a dict to which is added, for each instruction such as "ld.global.v4.f32", how many threads executed it.

    Raises: PTXError and its subclasses, NotImplementedError; memory is then as the steps before left it.
    """
    with default_environment():
        Run(kernel, grid, block, arguments, memory, dynamic_shared, frozenset(approximations), counts).execute()


def _three(sizes):
    sizes = (sizes,) if isinstance(sizes, (int, np.integer)) else tuple(sizes)
    if not 1 <= len(sizes) <= 3 or any(x < 1 for x in sizes):
        raise PTXError(f"a grid or block of {sizes}")
    return (*(int(x) for x in sizes), 1, 1)[:3]


class Run:
    """One launch. Decoded instructions work on its attributes."""

    def __init__(self, kernel, grid, block, arguments, memory, dynamic_shared, approximations, counts):
        self.kernel, self.program, self.memory = kernel, kernel.program, memory
        self.approximations, self.counts = approximations, counts
        grid, block = _three(grid), _three(block)
        self.block_threads, blocks = math.prod(block), math.prod(grid)
        self.threads = self.block_threads * blocks
        self._check_sizes(block, grid, dynamic_shared)
        ids = np.arange(self.threads)
        self.block_of, self.thread_of = ids // self.block_threads, ids % self.block_threads
        self.lane_of = self.thread_of % WARP
        warps_of_block = -(-self.block_threads // WARP)
        self.warp_of = (self.block_of * warps_of_block + self.thread_of // WARP).astype(np.int32)
        # The number in the grid of the first thread of a thread's warp.
        self.warp_start = ids - self.lane_of
        self.warp_times = np.zeros(warps_of_block * blocks, np.int32)
        self._specials = self._special_registers(grid, block)
        self.parameters = self._parameter_bytes(arguments)
        self.registers = Registers(self.program.register_count, self.threads)
        self.shared = SharedMemory(self.program.shared_size + dynamic_shared, blocks)
        self.shared.set_warps(self.warp_of)
        self.local = OwnMemory("local", self.program.local_size, self.threads)
        self._variables = {}
        for name in self.program.variables:
            array = kernel.module.memory[name]
            self._variables[name] = np.array([array.ctypes.data], np.uint64)
            memory.add_array(array, kernel.module.variables[name].space == "global", name)
        self.writes = WriteRecord(memory.tables()[-1])
        self.everyone = Active(ids, self.threads)
        self._returns = {name: np.zeros(self.threads, np.int32) for name in self.program.return_slots}

    def _check_sizes(self, block, grid, dynamic_shared):
        kernel = self.program.kernel
        limit = min(kernel.max_threads or 1024, 1024)
        if self.block_threads > limit or block[2] > 64:
            raise PTXError(f"{kernel.name}: a block of {block} threads, at most {limit} are allowed")
        if kernel.required_threads not in (None, self.block_threads):
            raise PTXError(f"{kernel.name}: a block of {block} threads, {kernel.required_threads} are required")
        if grid[0] > 2**31 - 1 or max(grid[1:]) > 65535:
            raise PTXError(f"{kernel.name}: a grid of {grid} blocks")
        if self.program.shared_size + dynamic_shared > 48 * 1024:
            raise PTXError(f"{kernel.name}: more than 48 KiB of shared memory")

    def _special_registers(self, grid, block):
        def u32(values):
            values = np.asarray(values, np.uint32).reshape(-1)
            return values[:1] if (values == values[0]).all() else values

        found = {"%laneid": u32(self.lane_of), "%warpid": u32(self.thread_of // WARP)}
        found["%nwarpid"] = u32(-(-self.block_threads // WARP))
        for i, axis in enumerate("xyz"):
            found[f"%ntid.{axis}"], found[f"%nctaid.{axis}"] = u32(block[i]), u32(grid[i])
            found[f"%tid.{axis}"] = u32(self.thread_of // math.prod(block[:i]) % block[i])
            found[f"%ctaid.{axis}"] = u32(self.block_of // math.prod(grid[:i]) % grid[i])
        lane = np.uint64(1) << self.lane_of.astype(np.uint64)
        masks = {"eq": lane, "lt": lane - np.uint64(1), "ge": ~(lane - np.uint64(1))}
        masks |= {"le": masks["lt"] | lane, "gt": masks["ge"] & ~lane}
        for name, mask in masks.items():
            found[f"%lanemask_{name}"] = u32(mask & np.uint64(0xFFFFFFFF))
        return found

    def _parameter_bytes(self, arguments):
        declared = self.kernel.parameters
        if len(arguments) != len(declared):
            raise PTXError(f"{self.kernel.name}: {len(arguments)} arguments for {len(declared)} parameters")
        size = self.program.kernel.sizes["param"]
        if size > _MAX_PARAMETER_BYTES:
            raise PTXError(
                f"{self.kernel.name}: {size} bytes of parameters, at most {_MAX_PARAMETER_BYTES} are allowed"
            )
        block = np.zeros(size, np.uint8)
        for parameter, argument in zip(declared, arguments, strict=True):
            raw = bytes(argument) if isinstance(argument, (bytes, bytearray)) else np.asarray(argument).tobytes()
            if len(raw) != parameter.size:
                raise PTXError(f"{self.kernel.name}: {len(raw)} bytes for {parameter.name} of {parameter.size}")
            block[parameter.offset : parameter.offset + parameter.size] = np.frombuffer(raw, np.uint8)
        return block

    def special(self, name, active):
        """The values of a register that the hardware sets."""
        value = self._specials[name]
        return value if value.size == 1 or active.all else value[active.index]

    def variable_address(self, name):
        """The address of a variable of the module."""
        return self._variables[name]

    # ---- control flow

    def execute(self):
        # Threads that can run, by the step that they stand at; and those at a barrier, with what they bring to it.
        self._ready: dict[int, Active] = {self.program.start: self.everyone}
        self._waiting: dict[int, list] = {}
        left = _MAX_STEPS
        while self._ready or self._waiting:
            if not self._ready:
                self._release()
            at = min(self._ready)
            left = self._run_from(at, self._ready.pop(at), left)

    def _run_from(self, at, active, left):
        """Runs threads until they part, wait or meet others. Returns how many steps are left."""
        steps = self.program.steps
        while True:
            step = steps[at]
            left -= 1
            if left < 0:
                raise self._located(PTXError(f"no end after {_MAX_STEPS} steps"), step, active)
            chosen = active
            try:
                if step.guard is not None:
                    chosen = self._guarded(step, active)
                if self.counts is not None:
                    name = step.instruction.mnemonic
                    self.counts[name] = self.counts.get(name, 0) + chosen.size
                if step.kind == "plain":
                    if chosen.size:
                        step.execute(self, chosen)
                    at += 1
                    if at in self._ready:
                        self._join(at, active)
                        return left
                    continue
                if step.kind != "bra" or chosen.size != active.size:
                    self._part(step, at, active, chosen)
                    return left
            except PTXError as error:
                raise self._located(error, step, chosen) from None
            if min(self._ready, default=step.target) <= step.target:
                self._join(step.target, active)
                return left
            at = step.target

    def _guarded(self, step, active):
        predicate = self.registers.read(step.guard, PREDICATE.dtype, active)
        if predicate.size == 1:
            return active if predicate[0] != step.inverted else Active(active.ids[:0], self.threads)
        return Active(active.ids[predicate != step.inverted], self.threads)

    def _join(self, at, active):
        """Threads now stand at a step, with those that are there already."""
        if not active.size:
            return
        if at in self._ready:
            both = np.zeros(self.threads, np.bool_)
            both[active.index] = True
            both[self._ready[at].index] = True
            active = Active(np.flatnonzero(both), self.threads)
        self._ready[at] = active

    def _without(self, active, chosen):
        if not chosen.size:
            return active
        rest = np.zeros(self.threads, np.bool_)
        rest[active.index] = True
        rest[chosen.index] = False
        return Active(np.flatnonzero(rest), self.threads)

    def _part(self, step, at, active, chosen):
        """Threads leave the common way by a branch, call, return or barrier."""
        self._join(at + 1, self._without(active, chosen))
        if not chosen.size:
            return
        if step.kind == "bra":
            self._join(step.target, chosen)
        elif step.kind == "call":
            call = step.execute
            for register in call.fresh:
                self.registers.forget(register, chosen)
            for source, target in call.arguments:
                self.registers.copy(source, target, chosen)
            self._returns[call.function][chosen.index] = at + 1
            self._join(step.target, chosen)
        elif step.kind == "ret" and step.function != self.kernel.name:
            self._return(step.function, chosen)
        elif step.kind in ("bar", "barrier"):
            self._arrive(step, at, chosen)
        elif step.kind == "trap":
            raise PTXError("trap")

    def _return(self, function, active):
        returns = self._returns[function][active.index]
        for at in np.unique(returns):
            part = Active(active.ids[returns == at], self.threads)
            for source, target in self.program.steps[at - 1].execute.results:
                self.registers.copy(source, target, part)
            self._join(int(at), part)

    def _arrive(self, step, at, active):
        barrier = step.execute
        if barrier.of_warp:
            barrier.synchronise_warp(self, active)
            self._join(at + 1, active)
            return
        if at in self._waiting:
            self._waiting[at].append(active)
        else:
            self._waiting[at] = [active]

    def _release(self):
        """All threads stand at barriers: of each block all must, at the same one."""
        arrived = np.full(self.threads, -1, np.int64)
        groups = {}
        for at, parts in self._waiting.items():
            for part in parts:
                arrived[part.index] = at
            groups[at] = Active(np.flatnonzero(arrived == at), self.threads)
        by_block = arrived.reshape(-1, self.block_threads)
        apart = (by_block != by_block[:, :1]).any(axis=1)
        if apart.any():
            block = int(np.argmax(apart))
            at = int(by_block[block].max())
            missing = int(np.argmax(by_block[block] != at))
            active = Active(np.array([block * self.block_threads + missing]), self.threads)
            error = Divergence("a barrier that not every thread of the block reaches, this one does not")
            raise self._located(error, self.program.steps[at], active)
        self._waiting.clear()
        self.shared.block_time += 1
        for at, active in groups.items():
            self.program.steps[at].execute.release(self, active)
            self._join(at + 1, active)

    def _located(self, error, step, active):
        """The error with kernel, instruction and thread in its message."""
        which = getattr(error, "first", 0)
        thread = int(active.ids[which if which < active.size else 0]) if active.size else 0
        where = f"thread {self.thread_of[thread]} of block {self.block_of[thread]}"
        function = "" if step.function == self.kernel.name else f" in {step.function}"
        return type(error)(f"{error} ({where}, kernel {self.kernel.name}{function}, at: {step.instruction.text})")
