"""The driver: what is loaded, and what its failures become."""

import ctypes

import numpy as np
import pytest

from fusemin import _core
from tests.support.cuda import ptx
from tests.support.cuda.cuda_step import DeviceStep
from tests.support.cuda.interpreting_driver import InterpretingDriver, device_array


def step(driver, sizes=(5,)):
    driver.memory = ptx.Memory()  # That of an earlier step may be taken again.
    device = DeviceStep(
        place=lambda array, offset: device_array(array, driver.memory, offset),
        address=lambda array: array.ctypes.data,
        read=np.copy,
    )
    device.run("sgd", [np.ones(n, np.float32) for n in sizes], [np.ones(n, np.float32) for n in sizes], [], [0.5])
    return device


def make(**arguments):
    return InterpretingDriver(ptx.Memory(), **arguments)


def has_driver():
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


@pytest.mark.skipif(has_driver(), reason="there is an NVIDIA driver")
def test_without_a_driver_a_step_says_so():
    with pytest.raises(RuntimeError, match=r"there is no NVIDIA driver: libcuda\.so\.1"):
        _core.cuda.zero_tickets(0, 0)


# The architecture of the cubin that a device of this compute capability is to get, or None for the PTX.
CHOICES = {
    (7, 0): None,
    (7, 5): 75,
    (8, 0): 80,
    (8, 6): 86,
    (8, 7): 86,
    (8, 9): 89,
    (9, 0): 90,
    (10, 0): 100,
    (10, 3): 100,
    (11, 0): None,
    (12, 0): 120,
    (12, 1): 120,
    (13, 0): None,
}


@pytest.mark.parametrize("capability", CHOICES)
def test_image_for_a_device(capability):
    images = _core.cuda.images()["sgd"]
    loaded = []

    class Driver(InterpretingDriver):
        def _cuModuleLoadDataEx(self, module, image, *rest):
            start = 4096
            loaded.extend(name for name, x in images.items() if ctypes.string_at(image, start) == x[:start])
            super()._cuModuleLoadDataEx(module, image, *rest)

        def _cuLaunchKernel(self, *arguments): ...

    driver = Driver(ptx.Memory(), compute_capability=capability)
    with driver.installed():
        step(driver)
    driver.raise_error()
    choice = CHOICES[capability]
    assert loaded == ["ptx" if choice is None else f"sm_{choice}"]


def test_a_module_is_loaded_once():
    driver = make()
    with driver.installed():
        for _ in range(3):
            step(driver)
    driver.raise_error()
    assert driver.calls.count("cuModuleLoadDataEx") == 1
    assert driver.calls.count("cuModuleGetFunction") == 1
    assert driver.calls.count("cuLaunchKernel") == 3


FAILURES = {
    "cuStreamGetCtx": "cuStreamGetCtx failed",
    "cuCtxPushCurrent": "cuCtxPushCurrent failed",
    "cuDeviceGetAttribute": "compute capability",
    "cuModuleLoadDataEx": "loading the kernels 'sgd' (PTX) failed",
    "cuModuleGetFunction": "cuModuleGetFunction of sgd_0_float32_plain failed",
    "cuLaunchKernel": "launching the kernel sgd_0_float32_plain failed",
    "cuMemsetD8Async": "cuMemsetD8Async failed",
}


@pytest.mark.parametrize("function", FAILURES)
def test_a_failure_says_what_where_and_with_which_driver(function):
    driver = make(fail={function: 7})
    with driver.installed(), pytest.raises(RuntimeError) as raised:
        step(driver)
    message = str(raised.value)
    assert FAILURES[function] in message
    assert "CUDA_ERROR_OF_TEST (error 7 of the test)" in message
    assert "device 0 (PTX interpreter" in message
    assert "a driver for CUDA 12.5" in message
    # The context is given back.
    pushed = driver.calls.count("cuCtxPushCurrent") - (function == "cuCtxPushCurrent")
    assert driver.calls.count("cuCtxPopCurrent") == pushed


@pytest.mark.parametrize("number", [1, 2, 131, 132, 133, 200])
def test_one_launch_for_each_table_of_tensors(number):
    driver = make(interprets=False)
    with driver.installed():
        device = step(driver, [3] * number)
    driver.raise_error()
    capacity = _core.cuda.capacity(2)
    assert device.num_launches == len(driver.launches) == -(-number // capacity)
