"""Functions of libcuda.so.1 whose device is the PTX interpreter, for tests of what calls the driver by ctypes."""

from __future__ import annotations

import ctypes

import numpy as np

from tests.support.cuda import launch_parameters, ptx
from tests.support.cuda.cuda_driver import FUNCTIONS
from tests.support.cuda.interpreting_driver import InterpretingDriver


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
        self._copies: list[tuple[int, bytes]] = []
        # Called as those of a C library are: what ctypes does not convert, or converts wrongly, shows.
        for name, arguments in FUNCTIONS.items():
            setattr(self, name, ctypes.CFUNCTYPE(ctypes.c_int, *arguments)(self._wrapped(name)))

    def _cuDeviceGetCount(self, count):
        count[0] = self._num_devices

    def _cuDeviceGet(self, device, number):
        device[0] = number

    def _cuDevicePrimaryCtxRetain(self, context, device):
        context[0] = 1

    def _cuCtxSetCurrent(self, context): ...

    def _cuMemGetInfo_v2(self, free, total):
        free[0] = total[0] = self._free_bytes

    def _cuStreamCreate(self, stream, flags):
        stream[0] = 0x5000

    def _cuStreamSynchronize(self, stream):
        if self._capture is not None:
            return 900  # CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED
        for to, data in self._copies:
            ctypes.memmove(to, data, len(data))
        self._copies.clear()
        return 0

    def _cuMemAlloc_v2(self, address, size):
        buffer = np.full(size + 512, 0xFF, np.uint8)
        start = -(-buffer.ctypes.data // 256) * 256
        self.memory.add(start, size)
        self._buffers[start] = buffer
        address[0] = start

    def _cuMemFree_v2(self, address):
        self.memory.remove(address)
        del self._buffers[address]

    def _cuMemcpyHtoDAsync_v2(self, to, source, size, stream):
        # What the host had before the stream is waited for.
        self._copies.append((to, ctypes.string_at(source, size)))

    def _cuMemcpyDtoDAsync_v2(self, to, source, size, stream):
        ctypes.memmove(to, source, size)

    def _cuEventCreate(self, event, flags):
        event[0] = 0x6000

    def _cuEventRecord(self, event, stream): ...

    def _cuEventSynchronize(self, event): ...

    def _cuEventElapsedTime(self, milliseconds, begin, end):
        milliseconds[0] = 1.0

    def _cuEventDestroy_v2(self, event): ...

    def _cuMemcpyDtoH_v2(self, to, source, size):
        ctypes.memmove(to, source, size)

    def _cuMemsetD32Async(self, address, word, count, stream):
        np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(ctypes.c_uint32)), (count,))[:] = word

    def _cuStreamBeginCapture_v2(self, stream, mode):
        self._capture = []

    def _cuStreamEndCapture(self, stream, graph):
        self._graphs.append(self._capture)
        self._capture = None
        graph[0] = len(self._graphs)

    def _cuGraphInstantiateWithFlags(self, ready, graph, flags):
        ready[0] = graph

    def _cuGraphLaunch(self, ready, stream):
        for function, sizes, parameters in self._graphs[ready - 1]:
            pointers = (ctypes.c_void_p * 1)(ctypes.addressof(parameters))
            super()._cuLaunchKernel(function, *sizes, stream, pointers, None)

    def _cuGraphExecDestroy(self, ready): ...

    def _cuGraphDestroy(self, graph): ...

    def _cuLaunchKernel(self, function, gx, gy, gz, bx, by, bz, shared, stream, parameters, extra):
        if self._capture is None:
            super()._cuLaunchKernel(function, gx, gy, gz, bx, by, bz, shared, stream, parameters, extra)
        else:
            kind = launch_parameters.parameters_of(self._functions[function - 1][1])
            kept = kind.from_buffer_copy(ctypes.string_at(parameters[0], ctypes.sizeof(kind)))
            self._capture.append((function, (gx, gy, gz, bx, by, bz, shared), kept))
