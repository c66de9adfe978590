"""Adam on tensors of a device, as the part of times and that of the profile take it."""

from __future__ import annotations

import numpy as np

# float32: parameter and two slots read and written, the gradient read.
BYTES_OF_ADAM = 28
# Numbers that are drawn; longer tensors have them again and again.
_DRAWN = 2**20


class Steps:
    """Steps of a rule on sets of tensors, each set of its own memory.

    Gradients and parameters are normally distributed, and so slots are no zeros from the second step on. The root of 0
    and what 0 is divided by take ways of their own on a GPU, of many more instructions: zeros say how long those take.

    Args:
      machine: a GpuMachine.
      rule: its name.
      dtype: of the tensors.
      sizes: of the tensors of a set.
      num_sets: how many sets, which are taken in turn, so that no step finds its tensors in a cache.
      zeros: whether all gradients, parameters and slots are 0 instead.
    """

    def __init__(self, machine, rule: str, dtype: str, sizes, num_sets: int = 1, zeros: bool = False):
        from fusemin import _core
        from tests.support.kernel_step import DTYPES

        self._machine, self._held = machine, []
        cuda, names = _core.cuda, _core.rules()[rule]
        element = np.dtype(DTYPES[dtype]).itemsize
        rng = np.random.default_rng(0)
        count = min(max(sizes), _DRAWN)
        drawn = self._zeros(2 * count * element)
        if not zeros:
            machine.write(drawn, rng.standard_normal(2 * count).astype(DTYPES[dtype]))

        def tensors():
            return [self._zeros(size * element) for size in sizes]

        def numbers(source):
            of_all = tensors()
            for address, size in zip(of_all, sizes, strict=True):
                for begin in range(0, size, count):
                    length = min(count, size - begin)
                    machine.copy(address + begin * element, source, length * element)
            return of_all

        self._tickets = self._zeros(cuda.TICKETS_BYTES)
        self._plans = []
        for _ in range(num_sets):
            iterations = self._zeros(8)
            plan = cuda.plan(
                rule,
                dtype,
                list(sizes),
                gradients=numbers(drawn),
                params=numbers(drawn + count * element),
                slots=[tensors() for _ in names["slots"]],
                hyperparameters=[0.5] * len(names["hyperparameters"]),
                scalars=[("float32", address, address) for address in map(self._zeros, [4] * len(names["scalars"]))],
                iterations=("int64", iterations, iterations),
            )
            self._plans.append((plan, self._zeros(max(plan.scratch_bytes, 1))))
        self.num_bytes = self._plans[0][0].num_bytes

    def _zeros(self, size: int) -> int:
        address = self._machine.allocate(-(-size // 4) * 4)
        self._held.append(address)
        self._machine.fill(address, 0, -(-size // 4))
        return address

    def enqueue(self, i: int) -> None:
        """Step i."""
        plan, scratch = self._plans[i % len(self._plans)]
        plan.enqueue(self._machine.stream, scratch, self._tickets)

    def free(self) -> None:
        self._machine.synchronise()
        for address in self._held:
            self._machine.free(address)
        self._held.clear()


class Copies:
    """Copies on the device of as many bytes as a step reads and writes: half of them are read, half written."""

    def __init__(self, machine, num_bytes: int, num_sets: int):
        self._machine, self._half = machine, max(num_bytes // 8 * 4, 4)
        self._pairs = [(machine.allocate(self._half), machine.allocate(self._half)) for _ in range(num_sets)]
        self.num_bytes = num_bytes

    def enqueue(self, i: int) -> None:
        self._machine.copy(*self._pairs[i % len(self._pairs)], self._half)

    def free(self) -> None:
        self._machine.synchronise()
        for address in np.ravel(self._pairs):
            self._machine.free(int(address))
