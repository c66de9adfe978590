"""Whether this machine has a GPU, asked of the driver: without TensorFlow, and without a context on the device."""

import ctypes
import functools


@functools.cache
def why_no_gpu() -> str:
    """Why nothing can run on a GPU here, or ""."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "there is no NVIDIA driver"
    count = ctypes.c_int()
    for function, *arguments in ((driver.cuInit, 0), (driver.cuDeviceGetCount, ctypes.byref(count))):
        if error := function(*arguments):
            return f"the NVIDIA driver answers with error {error}"
    return "" if count.value else "the NVIDIA driver has no device"
