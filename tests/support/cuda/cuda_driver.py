"""A GPU through libcuda.so.1 and ctypes, as a machine of `kernel_cases`."""

from __future__ import annotations

import contextlib
import ctypes
from dataclasses import dataclass

import numpy as np

from tests.support.cuda.cuda_step import DeviceStep

_P = ctypes.POINTER
_HANDLE, _OUT_HANDLE, _ADDRESS = ctypes.c_void_p, _P(ctypes.c_void_p), ctypes.c_uint64
# The functions that are called, each with the types of its arguments.
FUNCTIONS = {
    "cuInit": [ctypes.c_uint],
    "cuDriverGetVersion": [_P(ctypes.c_int)],
    "cuGetErrorName": [ctypes.c_int, _P(ctypes.c_char_p)],
    "cuDeviceGetCount": [_P(ctypes.c_int)],
    "cuDeviceGet": [_P(ctypes.c_int), ctypes.c_int],
    "cuDeviceGetName": [_P(ctypes.c_char), ctypes.c_int, ctypes.c_int],
    "cuDeviceGetAttribute": [_P(ctypes.c_int), ctypes.c_int, ctypes.c_int],
    "cuDevicePrimaryCtxRetain": [_OUT_HANDLE, ctypes.c_int],
    "cuCtxSetCurrent": [_HANDLE],
    "cuMemGetInfo_v2": [_P(ctypes.c_size_t), _P(ctypes.c_size_t)],
    "cuStreamCreate": [_OUT_HANDLE, ctypes.c_uint],
    "cuStreamSynchronize": [_HANDLE],
    "cuMemAlloc_v2": [_P(_ADDRESS), ctypes.c_size_t],
    "cuMemFree_v2": [_ADDRESS],
    "cuMemcpyHtoDAsync_v2": [_ADDRESS, ctypes.c_void_p, ctypes.c_size_t, _HANDLE],
    "cuMemcpyDtoH_v2": [ctypes.c_void_p, _ADDRESS, ctypes.c_size_t],
    "cuMemcpyDtoDAsync_v2": [_ADDRESS, _ADDRESS, ctypes.c_size_t, _HANDLE],
    "cuMemsetD32Async": [_ADDRESS, ctypes.c_uint, ctypes.c_size_t, _HANDLE],
    "cuEventCreate": [_OUT_HANDLE, ctypes.c_uint],
    "cuEventRecord": [_HANDLE, _HANDLE],
    "cuEventSynchronize": [_HANDLE],
    "cuEventElapsedTime": [_P(ctypes.c_float), _HANDLE, _HANDLE],
    "cuEventDestroy_v2": [_HANDLE],
    "cuStreamBeginCapture_v2": [_HANDLE, ctypes.c_int],
    "cuStreamEndCapture": [_HANDLE, _OUT_HANDLE],
    "cuGraphInstantiateWithFlags": [_OUT_HANDLE, _HANDLE, ctypes.c_ulonglong],
    "cuGraphLaunch": [_HANDLE, _HANDLE],
    "cuGraphExecDestroy": [_HANDLE],
    "cuGraphDestroy": [_HANDLE],
}
_MAJOR, _MINOR = 75, 76
_NON_BLOCKING_STREAM = 1
# Any call in the capture that could wait for the device is an error, whichever thread makes it.
_CAPTURE_GLOBAL = 0
GUARD_BYTES, _GUARD_BYTE = 256, 0xA5


class CudaError(RuntimeError):
    """A function of the driver failed."""


class GuardError(AssertionError):
    """A kernel wrote beside an array."""


def open_library():
    """libcuda.so.1. Raises OSError where there is no driver."""
    library = ctypes.CDLL("libcuda.so.1")
    for name, arguments in FUNCTIONS.items():
        getattr(library, name).argtypes = arguments
    return library


@dataclass
class _Placed:
    """An array on the device, with guards before and after it."""

    base: int
    address: int
    dtype: np.dtype
    shape: tuple
    before: int


class GpuMachine:
    """A device of the machine.

    Args:
      library: what `open_library` gives, or something with the same functions.
      device: its number.
    """

    def __init__(self, library, device: int = 0):
        self._library = library
        self._call("cuInit", 0)
        number = ctypes.c_int()
        self._call("cuDeviceGetCount", ctypes.byref(number))
        if number.value <= device:
            raise CudaError(f"there is no device {device}, there are {number.value}")
        handle, context, stream = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuDeviceGet", ctypes.byref(handle), device)
        self._device = handle.value
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self._device)
        self._call("cuCtxSetCurrent", context.value)
        self._call("cuStreamCreate", ctypes.byref(stream), _NON_BLOCKING_STREAM)
        self.stream = stream.value
        self._placed: list[_Placed] = []

    def _call(self, name, *arguments):
        code = getattr(self._library, name)(*arguments)
        if code:
            text = ctypes.c_char_p()
            self._library.cuGetErrorName(code, ctypes.byref(text))
            raise CudaError(f"{name} failed: {(text.value or b'').decode()} ({code})")

    def describe(self) -> str:
        """The device and the driver, for people."""
        name = ctypes.create_string_buffer(128)
        version, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        self._call("cuDeviceGetName", name, len(name), self._device)
        self._call("cuDriverGetVersion", ctypes.byref(version))
        self._call("cuDeviceGetAttribute", ctypes.byref(major), _MAJOR, self._device)
        self._call("cuDeviceGetAttribute", ctypes.byref(minor), _MINOR, self._device)
        cuda = f"CUDA {version.value // 1000}.{version.value % 1000 // 10}"
        return f"{name.value.decode()}, compute capability {major.value}.{minor.value}, driver for {cuda}"

    def free_bytes(self) -> int:
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value

    def allocate(self, size: int) -> int:
        """The address of `size` bytes, for `free`."""
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), size)
        return address.value

    def free(self, address: int):
        self._call("cuMemFree_v2", address)

    def synchronise(self):
        """Waits for all work of the stream."""
        self._call("cuStreamSynchronize", self.stream)

    def copy(self, to: int, source: int, size: int):
        """Enqueues a copy on the device."""
        self._call("cuMemcpyDtoDAsync_v2", to, source, size, self.stream)

    def milliseconds(self, enqueue) -> float:
        """What the device takes for all that `enqueue` enqueues, between two events of the stream."""
        events = [ctypes.c_void_p(), ctypes.c_void_p()]
        for event in events:
            self._call("cuEventCreate", ctypes.byref(event), 0)
        try:
            self._call("cuEventRecord", events[0].value, self.stream)
            enqueue()
            self._call("cuEventRecord", events[1].value, self.stream)
            self._call("cuEventSynchronize", events[1].value)
            elapsed = ctypes.c_float()
            self._call("cuEventElapsedTime", ctypes.byref(elapsed), events[0].value, events[1].value)
        finally:
            for event in events:
                self._call("cuEventDestroy_v2", event.value)
        return elapsed.value

    def fill(self, address: int, word: int, count: int):
        """Sets `count` words of 32 bits."""
        self._call("cuMemsetD32Async", address, word, count, self.stream)

    def write(self, address: int, array: np.ndarray):
        """When it returns, the device has the array."""
        array = np.ascontiguousarray(array)
        # On the stream itself: a copy of pageable memory on the default stream may be under way when it returns, and a
        # stream that does not block does not wait for it.
        self._call("cuMemcpyHtoDAsync_v2", address, array.ctypes.data, array.nbytes, self.stream)
        self.synchronise()

    def read_bytes(self, address: int, size: int) -> np.ndarray:
        """What is there when the stream has done all its work."""
        self.synchronise()
        data = np.empty(size, np.uint8)
        if size:
            self._call("cuMemcpyDtoH_v2", data.ctypes.data, address, size)
        return data

    def _place(self, array, offset):
        array = np.ascontiguousarray(array)
        before = GUARD_BYTES + offset * array.itemsize
        data = np.full(before + array.nbytes + GUARD_BYTES, _GUARD_BYTE, np.uint8)
        data[before : before + array.nbytes] = array.reshape(-1).view(np.uint8)
        base = self.allocate(data.nbytes)
        placed = _Placed(base, base + before, array.dtype, array.shape, before)
        self._placed.append(placed)
        self.write(base, data)
        return placed

    def _read(self, placed):
        return self.read_bytes(placed.address, _size(placed)).view(placed.dtype).reshape(placed.shape)

    def _check_guards(self):
        for placed in self._placed:
            size = _size(placed)
            data = self.read_bytes(placed.base, placed.before + size + GUARD_BYTES)
            beside = np.concatenate([data[: placed.before], data[placed.before + size :]])
            if (beside != _GUARD_BYTE).any():
                raise GuardError(f"a kernel wrote beside an array of {placed.dtype} of shape {placed.shape}")

    @contextlib.contextmanager
    def step(self):
        """As `kernel_cases` wants it. Raises GuardError if a kernel wrote beside an array."""
        try:
            yield DeviceStep(self._place, address=lambda x: x.address, read=self._read, stream=self.stream)
            self._check_guards()
        finally:
            for placed in self._placed:
                self.free(placed.base)
            self._placed.clear()

    @contextlib.contextmanager
    def graph(self, enqueue):
        """A function that launches a graph of what `enqueue` enqueues. A call of it that waits for the device, or
        copies to the host, ends the capture with an error."""
        graph, ready = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuStreamBeginCapture_v2", self.stream, _CAPTURE_GLOBAL)
        try:
            enqueue()
        finally:
            self._call("cuStreamEndCapture", self.stream, ctypes.byref(graph))
        self._call("cuGraphInstantiateWithFlags", ctypes.byref(ready), graph.value, 0)
        try:
            yield lambda: self._call("cuGraphLaunch", ready.value, self.stream)
            self.synchronise()
        finally:
            self._call("cuGraphExecDestroy", ready.value)
            self._call("cuGraphDestroy", graph.value)

    def launch_again(self, enqueue, times: int):
        """Launches a graph of what `enqueue` enqueues so often."""
        with self.graph(enqueue) as launch:
            for _ in range(times):
                launch()


def _size(placed):
    return int(np.prod(placed.shape)) * placed.dtype.itemsize
