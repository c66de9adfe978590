"""The part that measures a step of Adam beside PyTorch's and a copy of as many bytes, by events of the device.

All are enqueued on one stream, in turn in each round, on sets of tensors that together are larger than the caches; a
sample is the mean over the steps between two events. Each is also captured in a graph of the device, launched as one.
"""

from __future__ import annotations

import math
import statistics

from tests.gpu.kit.part import Part
from tests.gpu.kit.steps import BYTES_OF_ADAM, Copies, Steps

ROUNDS, NUM_STEPS = 15, 20
# More than the second-level cache of any device.
BYTES_OF_SETS = 256 * 2**20
MAX_SETS = 16
DTYPES = ("float32", "float64", "float16", "bfloat16")


def problems(small: bool) -> dict[str, list[int]]:
    """Sizes of tensors by name."""
    if small:
        return {"3 of 100": [100] * 3}
    from benchmarks.shapes import MODELS

    models = {name: [math.prod(shape) for shape in make()] for name, make in MODELS.items()}
    return {"1 of 1": [1], "100 of 1,000": [1000] * 100, **models, "1 of 10^8": [10**8]}


class OfTorch:
    """PyTorch's Adam on tensors of its own, one optimizer for each set, on the machine's stream."""

    def __init__(self, torch, machine, dtype: str, sizes, num_sets: int, **how):
        self._torch, self._stream = torch, torch.cuda.ExternalStream(machine.stream)
        self._optimizers = []
        with torch.cuda.stream(self._stream):
            for _ in range(num_sets):
                tensors = [torch.randn(size, dtype=getattr(torch, dtype), device="cuda") for size in sizes]
                for tensor in tensors:
                    tensor.requires_grad_()
                    tensor.grad = torch.randn_like(tensor)
                # Capturable: the count of steps is on the device, as fusemin's is.
                self._optimizers.append(torch.optim.Adam(tensors, lr=1e-3, capturable=True, **how))

    def enqueue(self, i: int) -> None:
        with self._torch.cuda.stream(self._stream):
            self._optimizers[i % len(self._optimizers)].step()

    def free(self) -> None:
        self._optimizers.clear()
        self._torch.cuda.empty_cache()


def rivals(part: Part, machine, dtype: str, sizes, num_sets: int) -> dict:
    made = {"fusemin": Steps(machine, "adam", dtype, sizes, num_sets)}
    made["a copy of as many bytes"] = Copies(machine, made["fusemin"].num_bytes, num_sets)
    try:
        import torch
    except ImportError:
        part.leave_out("PyTorch", "it is not installed")
        return made
    for name, how in {"PyTorch, fused": {"fused": True}, "PyTorch, foreach": {"foreach": True}}.items():
        made[name] = OfTorch(torch, machine, dtype, sizes, num_sets, **how)
    return made


def measure(machine, rival, num_steps: int, rounds: int) -> list[float]:
    """Microseconds a step, a number for each round."""

    def steps():
        for i in range(num_steps):
            rival.enqueue(i)

    return [1e3 * machine.milliseconds(steps) / num_steps for _ in range(rounds)]


def run_case(part: Part, machine, dtype: str, sizes) -> dict:
    one_set = BYTES_OF_ADAM * sum(sizes)
    num_sets = 1 if part.small else min(MAX_SETS, max(1, BYTES_OF_SETS // one_set))
    rounds, num_steps = (2, 3) if part.small else (ROUNDS, NUM_STEPS)
    made = rivals(part, machine, dtype, sizes, num_sets)
    samples: dict[str, list[float]] = {rival: [] for rival in made}
    row: dict = {"sets": num_sets, "bytes": made["fusemin"].num_bytes, "us": samples, "us in a graph": {}}
    try:
        for rival in made.values():  # Loads kernels, creates slots.
            measure(machine, rival, max(num_sets, 2), 1)
        for _ in range(rounds):
            for rival, how in made.items():
                samples[rival] += measure(machine, how, num_steps, 1)
        for rival, how in made.items():
            with machine.graph(lambda how=how: [how.enqueue(i) for i in range(num_steps)]) as launch:
                launch()
                times = [1e3 * machine.milliseconds(launch) / num_steps for _ in range(rounds)]
            row["us in a graph"][rival] = times
    finally:
        for rival in made.values():
            rival.free()
    row["median us"] = {rival: statistics.median(times) for rival, times in samples.items()}
    row["GB/s"] = row["bytes"] / row["median us"]["fusemin"] / 1e3 if row["median us"]["fusemin"] else None
    return row


def main() -> None:
    part = Part()
    from tests.support.cuda.cuda_driver import GpuMachine, open_library

    machine = GpuMachine(open_library())
    part.found["cases"] = {}
    for name, sizes in problems(part.small).items():
        for dtype in DTYPES[:1] if part.small else DTYPES:
            case = f"{name}, {dtype}"
            if part.seconds_left < 20:
                part.leave_out(case, "no time was left")
                continue
            try:
                part.found["cases"][case] = run_case(part, machine, dtype, sizes)
            except (RuntimeError, AssertionError) as error:
                part.fail(case, error)
            part.write()
    part.write()


if __name__ == "__main__":
    main()
