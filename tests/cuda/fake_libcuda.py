"""Functions of libcuda.so.1 whose device is the PTX interpreter, for tests of what calls the driver by ctypes."""

from __future__ import annotations

import ctypes

import launch_parameters
import numpy as np
import ptx
from interpreting_driver import InterpretingDriver


class FakeLibcuda(InterpretingDriver):
    """Stands in the place of both drivers: `ctypes.CDLL("libcuda.so.1")`, and, once `installed`, fusemin's table.

    Device memory is that of this process, with nothing known to kernels but what was allocated. In a capture launches
    are kept, and run with the graph.
    """

    def __init__(self, free_bytes=2**30, num_devices=1, **options):
        super().__init__(ptx.Memory(), **options)
        self._free_bytes, self._num_devices = free_bytes, num_devices
        self._buffers: dict[int, np.ndarray] = {}
        self._graphs: list[list] = []
        self._capture: list | None = None
        for name in ("cuInit", "cuDriverGetVersion", "cuGetErrorName", "cuDeviceGetAttribute"):
            setattr(self, name, _with_pointers(getattr(self, f"_{name}")))

    def cuDeviceGetName(self, name, length, device):
        name.value = b"PTX interpreter"

    def cuDeviceGetCount(self, count):
        count._obj.value = self._num_devices

    def cuDeviceGet(self, device, number):
        device._obj.value = number

    def cuDevicePrimaryCtxRetain(self, context, device):
        context._obj.value = 1

    def cuCtxSetCurrent(self, context): ...

    def cuMemGetInfo_v2(self, free, total):
        free._obj.value = total._obj.value = self._free_bytes

    def cuStreamCreate(self, stream, flags):
        stream._obj.value = 0x5000

    def cuStreamSynchronize(self, stream):
        if self._capture is not None:
            return 900  # CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED
        return 0

    def cuMemAlloc_v2(self, address, size):
        buffer = np.full(size + 512, 0xFF, np.uint8)
        start = -(-buffer.ctypes.data // 256) * 256
        self.memory.add(start, size)
        self._buffers[start] = buffer
        address._obj.value = start

    def cuMemFree_v2(self, address):
        self.memory.remove(address)
        del self._buffers[address]

    def cuMemcpyHtoD_v2(self, to, source, size):
        ctypes.memmove(to, source, size)

    def cuMemcpyDtoH_v2(self, to, source, size):
        ctypes.memmove(to, source, size)

    def cuMemsetD32Async(self, address, word, count, stream):
        np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(ctypes.c_uint32)), (count,))[:] = word

    def cuStreamBeginCapture_v2(self, stream, mode):
        self._capture = []

    def cuStreamEndCapture(self, stream, graph):
        self._graphs.append(self._capture)
        self._capture = None
        graph._obj.value = len(self._graphs)

    def cuGraphInstantiateWithFlags(self, ready, graph, flags):
        ready._obj.value = graph

    def cuGraphLaunch(self, ready, stream):
        for function, sizes, parameters in self._graphs[ready - 1]:
            pointers = (ctypes.c_void_p * 1)(ctypes.addressof(parameters))
            super()._cuLaunchKernel(function, *sizes, stream, pointers, None)

    def cuGraphExecDestroy(self, ready): ...

    def cuGraphDestroy(self, graph): ...

    def _cuLaunchKernel(self, function, gx, gy, gz, bx, by, bz, shared, stream, parameters, extra):
        if self._capture is None:
            super()._cuLaunchKernel(function, gx, gy, gz, bx, by, bz, shared, stream, parameters, extra)
        else:
            kind = launch_parameters.parameters_of(self._functions[function - 1][1])
            kept = kind.from_buffer_copy(ctypes.string_at(parameters[0], ctypes.sizeof(kind)))
            self._capture.append((function, (gx, gy, gz, bx, by, bz, shared), kept))


def _with_pointers(function):
    """A function of the table, called with `ctypes.byref(...)`, gets what it can index."""

    def call(*arguments):
        return function(*(ctypes.pointer(a._obj) if hasattr(a, "_obj") else a for a in arguments)) or 0

    return call
