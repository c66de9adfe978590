"""Adam on tensors of a device, as the part of times and that of the profile take it."""

from __future__ import annotations

import numpy as np

# float32: parameter and two slots read and written, the gradient read.
BYTES_OF_ADAM = 28


class Steps:
    """Steps of a rule on sets of tensors, each set of its own memory.

    Args:
      machine: a GpuMachine.
      rule: its name.
      dtype: of the tensors.
      sizes: of the tensors of a set.
      num_sets: how many sets, which are taken in turn, so that no step finds its tensors in a cache.
    """

    def __init__(self, machine, rule: str, dtype: str, sizes, num_sets: int = 1):
        from fusemin import _core

        self._machine, self._held = machine, []
        cuda, names = _core.cuda, _core.rules()[rule]
        element = {"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2}[dtype]

        def tensors():
            return [self._zeros(size * element) for size in sizes]

        self._tickets = self._zeros(cuda.TICKETS_BYTES)
        self._plans = []
        for _ in range(num_sets):
            iterations = self._zeros(8)
            plan = cuda.plan(
                rule,
                dtype,
                list(sizes),
                gradients=tensors(),
                params=tensors(),
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
