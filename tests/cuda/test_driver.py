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


@pytest.mark.parametrize("capability", [(7, 0), (8, 6), (13, 0)])
def test_a_unit_is_loaded_as_one_fat_binary(capability):
    """The driver chooses among its images."""
    driver = make(compute_capability=capability)
    with driver.installed():
        step(driver)
    driver.raise_error()
    assert driver.images == [_core.cuda.images()["sgd"]]


def test_a_driver_that_cannot_decompress_the_kernels_is_told_so():
    driver = make(version=12030)
    with driver.installed(), pytest.raises(RuntimeError) as raised:
        step(driver)
    assert str(raised.value) == (
        "loading the kernels 'sgd' needs an NVIDIA driver for CUDA 12.4 or later, this one is for CUDA 12.3: update "
        "it, or build fusemin with FUSEMIN_CUDA_COMPRESSION=speed"
    )
    assert "cuModuleLoadDataEx" not in driver.calls
    assert "cuLaunchKernel" not in driver.calls


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
    "cuModuleLoadDataEx": "loading the kernels 'sgd' failed",
    "cuModuleGetFunction": "cuModuleGetFunction of sgd_0_float32_plain failed",
    "cuOccupancyMaxActiveBlocksPerMultiprocessor": "asking how many blocks of sgd_0_float32_plain run at once failed",
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
