"""The CUDA kernels on a GPU, without TensorFlow:

    python -m tests.gpu.driver_only

needs the NVIDIA driver, NumPy, ml_dtypes (for bfloat16) and an installed wheel of fusemin, whose TensorFlow is not
imported: `pip install --no-deps` will do. Takes the steps of tests/support/cuda/kernel_cases.py with every rule and
dtype, compares with the CPU kernels, and prints a table. Exits with 1 if a step fails, with 2 if there is no GPU.
"""

from __future__ import annotations

import argparse
import importlib.machinery
import importlib.util
import sys
import time
import types

import numpy as np


def load_core():
    """`fusemin._core` without importing fusemin, which imports TensorFlow: its folder stands for the package."""
    if "fusemin" in sys.modules:
        return
    spec = importlib.util.find_spec("fusemin")
    if spec is None:
        sys.exit("fusemin is not installed for this Python: pip install --no-deps WHEEL")
    package = types.ModuleType("fusemin")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["fusemin"] = package
    package._core = importlib.import_module("fusemin._core")


def past_2_31(machine, middle=2**31):
    """A step of SGD in float16 on a tensor of more than 2^31 elements, all of which are looked at.

    The parameter is 1, the gradient 2, with other numbers at the begin, around 2^31, which is `middle`, and at the end.
    Returns why it was left out, or None.
    """
    from fusemin import _core

    size = middle + 2**16 + 5
    needed = 4 * (size + 64) + 2**28
    if machine.free_bytes() < needed:
        return f"the device has {machine.free_bytes() / 2**30:.1f} GiB free, {needed / 2**30:.1f} are needed"
    rng = np.random.default_rng(0)
    one, two = (int(np.array([x, x], np.float16).view(np.uint32)[0]) for x in (1.0, 2.0))
    tensors = [machine.allocate(2 * (size + 1)) for _ in range(2)]
    places = [0, middle - 500, size - 1001]
    numbers = [[rng.standard_normal(1001).astype(np.float16) for _ in places] for _ in tensors]
    small = machine.allocate(8 + _core.cuda.TICKETS_BYTES)
    try:
        for address, word, pieces in zip(tensors, (one, two), numbers, strict=True):
            machine.fill(address, word, (size + 1) // 2)
            machine.read_bytes(address, 0)
            for at, piece in zip(places, pieces, strict=True):
                machine.write(address + 2 * at, piece)
        machine.write(small, np.zeros(8 + _core.cuda.TICKETS_BYTES, np.uint8))
        plan = _core.cuda.plan(
            "sgd",
            "float16",
            [size],
            params=tensors[:1],
            gradients=tensors[1:],
            hyperparameters=[0.5],
            iterations=("int64", small, small),
        )
        plan.enqueue(machine.stream, 0, small + 8)
        piece_size = 2**27
        for begin in range(0, size, piece_size):
            end = min(size, begin + piece_size)
            got = machine.read_bytes(tensors[0] + 2 * begin, 2 * (end - begin)).view(np.float16)
            want = np.zeros(end - begin, np.float16)
            for at, p, g in zip(places, *numbers, strict=True):
                new = (p.astype(np.float32) - np.float32(0.5) * g.astype(np.float32)).astype(np.float16)
                low, high = max(at, begin), min(at + len(new), end)
                if low < high:
                    want[low - begin : high - begin] = new[low - at : high - at]
            np.testing.assert_array_equal(got, want, f"elements {begin} to {end}")
        assert machine.read_bytes(small, 8).view(np.int64)[0] == 1
    finally:
        for address in (*tensors, small):
            machine.free(address)
    return None


def all_steps(rules=None, dtypes=None, names=None):
    """Yields (name, function of a machine that returns the difference in ulp)."""
    from tests.support.cuda.kernel_cases import CASES, check, check_launches_again
    from tests.support.kernel_step import DTYPES
    from tests.support.rules_in_numpy import RULES

    for rule in rules or RULES:
        for dtype in dtypes or DTYPES:
            for name in names or CASES:
                yield (rule, dtype, name), lambda machine, r=rule, d=dtype, n=name: check(machine, r, d, CASES[n])
            yield (rule, dtype, "graph"), lambda machine, r=rule, d=dtype: check_launches_again(machine, r, d)


def run(machine, steps, large=True) -> int:
    """Takes all steps, prints a table of rules and dtypes, and returns the number of those that failed."""
    print(machine.describe())
    table: dict[tuple, list] = {}
    failures = []
    started = time.perf_counter()
    for (rule, dtype, name), take in steps:
        cell = table.setdefault((rule, dtype), [0, 0, 0.0])
        cell[0] += 1
        try:
            cell[2] = max(cell[2], take(machine))
        except Exception as error:
            cell[1] += 1
            failures.append(f"{rule}, {dtype}, {name}: {type(error).__name__}: {str(error).splitlines()[0]}")
    print(f"{'rule':34} {'dtype':9} {'steps':>5} {'failed':>6} {'ulp':>4}")
    for (rule, dtype), (count, failed, ulp) in table.items():
        print(f"{rule:34} {dtype:9} {count:5} {failed:6} {ulp:4g}")
    if large:
        try:
            left_out = past_2_31(machine)
            print("more than 2^31 elements:", "agrees" if left_out is None else f"left out, {left_out}")
        except AssertionError as error:
            failures.append(f"more than 2^31 elements: {error}")
    steps_taken = sum(cell[0] for cell in table.values())
    print(f"{steps_taken} steps, {len(failures)} failed, {time.perf_counter() - started:.0f} s")
    for failure in failures:
        print("FAILED", failure)
    return len(failures)


def main(open_library=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=int, default=0, metavar="N", help="the number of the GPU")
    parser.add_argument("--rules", nargs="+", metavar="RULE", help="by default all")
    parser.add_argument("--dtypes", nargs="+", metavar="DTYPE", help="by default all")
    parser.add_argument("--cases", nargs="+", metavar="CASE", help="by default all")
    parser.add_argument("--no-large", action="store_true", help="leave out the tensor of more than 2^31 elements")
    arguments = parser.parse_args()
    load_core()
    from tests.support.cuda import cuda_driver

    try:
        machine = cuda_driver.GpuMachine((open_library or cuda_driver.open_library)(), arguments.device)
    except (OSError, cuda_driver.CudaError) as error:
        print(f"no GPU: nothing was tested ({error})")
        return 2
    steps = all_steps(arguments.rules, arguments.dtypes, arguments.cases)
    return 1 if run(machine, steps, large=not arguments.no_large) else 0


if __name__ == "__main__":
    sys.exit(main())
