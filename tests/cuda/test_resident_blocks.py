"""A launch has as many blocks as the device runs at once, each of which takes chunks until none is left: what comes of
a step, and of copies of rows, is the same to the bit with any number of them."""

import contextlib

import numpy as np
import pytest

from fusemin import _core
from tests.support.cuda import launch_parameters, ptx
from tests.support.cuda.interpreting_driver import InterpretingDriver, device_array
from tests.support.cuda.interpreting_machine import InterpretingMachine
from tests.support.cuda.kernel_cases import CASES, check
from tests.support.kernel_step import assert_same_bits

MANY = 10_000


class RecordingMachine(InterpretingMachine):
    """With what the steps left."""

    def __init__(self, **options):
        super().__init__(**options)
        self.results = []

    @contextlib.contextmanager
    def step(self):
        with super().step() as step:
            run = step.run

            def recorded(**arguments):
                self.results.append({name: x.copy() for name, x in run(**arguments).items()})
                return self.results[-1]

            step.run = recorded
            yield step


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        *[(rule, name) for rule in ("adam", "lamb") for name in ("sizes", "cautious, clipnorm, decay, ema")],
        *[("adam", name) for name in ("clipnorm, many chunks", "global_clipnorm, many tensors", "all", "rows")],
        ("lamb", "cautious, many tensors"),
        ("prodigy", "sizes"),
        ("sgd", "dynamic loss scale"),
    ],
)
@pytest.mark.parametrize("resident_blocks", [1, 3])
def test_a_step_gives_the_same_bits_with_any_number_of_blocks(rule, name, resident_blocks):
    few, many = RecordingMachine(resident_blocks=resident_blocks), RecordingMachine(resident_blocks=MANY)
    for machine in (few, many):
        check(machine, rule, "float32", CASES[name])
    for got, want in zip(few.results, many.results, strict=True):
        assert_same_bits(got, want, f"{rule}, {name}, {resident_blocks} blocks")
    for machine, most in ((few, resident_blocks), (many, MANY)):
        for launch in machine.driver.launches:
            p = launch_parameters.parse(launch.kernel, launch.parameters)
            assert launch.grid == min(p.num_chunks, most)


# Bytes of a row, how many, and where both begin: of words of 16, 4 and 1 bytes, shorter and longer than the threads of
# a block together, and of a part.
ROWS = [(16, 5000, 0), (48, 7, 0), (4096, 3, 0), (4112, 40, 0), (100_000, 3, 0)]
ROWS += [(4, 20_000, 0), (12, 5, 4), (1028, 70, 4), (1, 70_000, 0), (3, 11, 1), (257, 300, 3)]


@pytest.mark.parametrize("resident_blocks", [1, 3, MANY])
def test_rows_are_copied_with_any_number_of_blocks(resident_blocks):
    rng = np.random.default_rng(0)
    driver = InterpretingDriver(ptx.Memory(), resident_blocks=resident_blocks)
    pairs = []
    for size, count, offset in ROWS:
        source = device_array(rng.integers(0, 256, size, np.uint8), driver.memory, offset)
        pairs.append((device_array(np.zeros(size * count, np.uint8), driver.memory, offset), source, count))
    with driver.installed():
        _core.cuda.enqueue_copies(0, [(to.ctypes.data, x.ctypes.data, x.size, n) for to, x, n in pairs])
    driver.raise_error()
    for to, source, count in pairs:
        np.testing.assert_array_equal(to, np.tile(source, count))
    (launch,) = driver.launches
    assert launch.grid == min(launch_parameters.parse(launch.kernel, launch.parameters).num_parts, resident_blocks)
