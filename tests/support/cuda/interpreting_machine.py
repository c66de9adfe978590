"""The PTX interpreter as a machine of `kernel_cases`."""

from __future__ import annotations

import contextlib

import numpy as np

from tests.support.cuda import launch_parameters, ptx
from tests.support.cuda.cuda_step import DeviceStep, cuda
from tests.support.cuda.interpreting_driver import InterpretingDriver, device_array


class InterpretingMachine:
    """Runs the embedded PTX, or what `mutate(text, kernel)` makes of it, and raises what the interpreter raises.

    Attributes:
      driver: that of the last step.
      options: of the driver.
    """

    def __init__(self, mutate=None, **options):
        self.options = {"mutate": mutate, **options}
        self.driver = None

    @contextlib.contextmanager
    def step(self):
        driver = self.driver = InterpretingDriver(ptx.Memory(), **self.options)
        arrays = []  # What is registered must stay.

        def place(array, offset):
            arrays.append(device_array(array, driver.memory, offset))
            return arrays[-1]

        with driver.installed():
            try:
                yield DeviceStep(place, address=lambda array: array.ctypes.data, read=np.copy)
            except RuntimeError as error:
                if driver.error is not None:
                    raise driver.error from error
                raise

    @staticmethod
    def launch_again(enqueue, times):
        for _ in range(times):
            enqueue()


class _LastChunks(InterpretingDriver):
    """Runs the last two chunks of a launch for one tensor, as if these were all: the others would take hours."""

    def _cuLaunchKernel(self, function, gx, gy, gz, bx, by, bz, shared, stream, parameters, extra):
        p = launch_parameters.StepParameters.from_address(parameters[0])
        assert p.num_tensors == 1
        # Chunks count from the tensor's first, modulo 2^32.
        at = p.num_pointers + 1
        p.table[at] = (2 - p.num_chunks) % 2**32
        p.num_chunks = 2
        super()._cuLaunchKernel(function, 2, gy, gz, bx, by, bz, shared, stream, parameters, extra)


def check_past_2_31(mutate=None):
    """A step of SGD on a tensor of 2^31 + 2^16 + 5 elements, of which only the last ones are there."""
    size, shown = 2**31 + 2**16 + 5, 2**17
    rng = np.random.default_rng(0)
    param, gradient = (rng.standard_normal(shown).astype(np.float32) for _ in range(2))
    memory = ptx.Memory()
    for base, array in ((2**45, param), (2**46, gradient)):
        memory.add_window(base, 4 * size, 4 * (size - shown), array)
    driver = _LastChunks(memory, mutate=mutate)
    iterations = device_array(np.zeros(1, np.int64), memory)
    tickets = device_array(np.zeros(cuda.TICKETS_BYTES, np.uint8), memory)
    plan = cuda.plan(
        "sgd",
        "float32",
        [size],
        gradients=[2**46],
        params=[2**45],
        hyperparameters=[0.5],
        iterations=("int64", iterations.ctypes.data, iterations.ctypes.data),
    )
    before = param.copy()
    with driver.installed():
        try:
            plan.enqueue(0, 0, tickets.ctypes.data)
        except RuntimeError:
            driver.raise_error()
            raise
    # Chunks are as large as they get; the last is the rest of the tensor.
    rest = (size - 1) % cuda.MAX_CHUNK + 1 + cuda.MAX_CHUNK
    want = before.copy()
    want[-rest:] -= np.float32(0.5) * gradient[-rest:]
    np.testing.assert_array_equal(param, want)
    assert iterations[0] == 1
