"""The PTX interpreter as a machine of `kernel_cases`."""

from __future__ import annotations

import contextlib

import numpy as np
import ptx
from cuda_step import DeviceStep
from interpreting_driver import InterpretingDriver, device_array


class InterpretingMachine:
    """Runs the embedded PTX, or what `mutate(text, kernel)` makes of it, and raises what the interpreter raises."""

    def __init__(self, mutate=None):
        self._mutate = mutate

    @contextlib.contextmanager
    def step(self):
        driver = InterpretingDriver(ptx.Memory(), mutate=self._mutate)
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
