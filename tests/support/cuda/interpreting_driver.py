"""A CUDA driver whose device is the PTX interpreter and whose memory is that of this process.

It stands behind the same table of functions as libcuda.so.1, and runs the PTX of the fat binaries that are embedded in
the library, so everything above the driver runs for real. Results are "PTX-interpreted".
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import pathlib
from dataclasses import dataclass, field

import numpy as np

import fusemin._core
from tests.support.cuda import fatbin, launch_parameters, ptx

_INT = ctypes.POINTER(ctypes.c_int)
_HANDLE = ctypes.POINTER(ctypes.c_void_p)

# DriverTable in csrc/backends/cuda/driver.h: the functions in order, each with the types of its arguments.
_FUNCTIONS = {
    "cuInit": [ctypes.c_uint],
    "cuDriverGetVersion": [_INT],
    "cuGetErrorName": [ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)],
    "cuGetErrorString": [ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)],
    "cuStreamGetCtx": [ctypes.c_void_p, _HANDLE],
    "cuCtxPushCurrent": [ctypes.c_void_p],
    "cuCtxPopCurrent": [_HANDLE],
    "cuCtxGetDevice": [_INT],
    "cuDeviceGetName": [ctypes.POINTER(ctypes.c_char), ctypes.c_int, ctypes.c_int],
    "cuDeviceGetAttribute": [_INT, ctypes.c_int, ctypes.c_int],
    "cuModuleLoadDataEx": [
        _HANDLE,
        ctypes.c_void_p,
        ctypes.c_uint,
        ctypes.POINTER(ctypes.c_int),
        ctypes.POINTER(ctypes.c_void_p),
    ],
    "cuModuleGetFunction": [_HANDLE, ctypes.c_void_p, ctypes.c_char_p],
    "cuOccupancyMaxActiveBlocksPerMultiprocessor": [_INT, ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t],
    "cuLaunchKernel": [
        ctypes.c_void_p,
        *[ctypes.c_uint] * 7,
        ctypes.c_void_p,
        ctypes.POINTER(ctypes.c_void_p),
        ctypes.POINTER(ctypes.c_void_p),
    ],
    "cuMemsetD8Async": [ctypes.c_uint64, ctypes.c_ubyte, ctypes.c_size_t, ctypes.c_void_p],
}


class DriverTable(ctypes.Structure):
    _fields_ = [(name, ctypes.CFUNCTYPE(ctypes.c_int, *arguments)) for name, arguments in _FUNCTIONS.items()]


@functools.cache
def _library():
    return ctypes.CDLL(str(pathlib.Path(fusemin._core.__file__).with_name("libfusemin_cuda.so")))


@functools.cache
def _parse(text: bytes):
    return ptx.parse(text.decode())


@functools.cache
def _kernel(text: bytes, name: str):
    return ptx.Kernel(_parse(text), name)


@dataclass
class Launch:
    """One call of cuLaunchKernel."""

    kernel: str
    grid: int
    block: int
    parameters: bytes


@dataclass
class InterpretingDriver:
    """The driver.

    Attributes:
      memory: what kernels may touch; each access is checked. None: what the parameters of a launch point to, at the
        sizes that they say.
      compute_capability: what the device claims to be.
      version: what the driver claims to be for: 12040 is CUDA 12.4.
      resident_blocks: how many blocks the device claims to run at once.
      launches: all launches so far.
      calls: names of the functions called so far.
      fail: the code that a function returns instead of doing anything, by its name.
      interprets: whether kernels are run.
      mutate: a function of PTX and a kernel's name that gives other PTX, for tests of the tests.
      images: the fat binaries that were loaded.
      counts: how many threads executed each instruction.
      error: what the interpreter raised in a launch; `raise_error` raises it.
    """

    memory: ptx.Memory | None = None
    compute_capability: tuple[int, int] = (7, 0)
    version: int = 12050
    resident_blocks: int = 528
    interprets: bool = True
    launches: list[Launch] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    fail: dict[str, int] = field(default_factory=dict)
    mutate: object = None
    images: list[bytes] = field(default_factory=list)
    error: BaseException | None = None
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self):
        self._modules: list[bytes] = []
        self._functions: list[tuple[bytes, str]] = []
        self.table = DriverTable(*(kind(self._wrapped(name)) for name, kind in DriverTable._fields_))

    def _wrapped(self, name):
        function = getattr(self, f"_{name}")

        def call(*arguments):
            self.calls.append(name)
            if name in self.fail:
                return self.fail[name]
            try:
                return function(*arguments) or 0
            except BaseException as error:  # It cannot pass through C.
                self.error = error
                return 719  # CUDA_ERROR_LAUNCH_FAILED

        return call

    def raise_error(self):
        """Raises what the interpreter raised."""
        if self.error is not None:
            error, self.error = self.error, None
            raise error

    def _cuInit(self, flags): ...

    def _cuDriverGetVersion(self, version):
        version[0] = self.version

    def _cuGetErrorName(self, code, text):
        text[0] = b"CUDA_ERROR_OF_TEST"

    def _cuGetErrorString(self, code, text):
        text[0] = b"error %d of the test" % code

    def _cuStreamGetCtx(self, stream, context):
        context[0] = 1

    def _cuCtxPushCurrent(self, context): ...

    def _cuCtxPopCurrent(self, context):
        context[0] = 1

    def _cuCtxGetDevice(self, device):
        device[0] = 0

    def _cuDeviceGetName(self, name, length, device):
        text = b"PTX interpreter\0"
        ctypes.memmove(name, text, min(len(text), length))

    def _cuDeviceGetAttribute(self, value, attribute, device):
        value[0] = {16: self.resident_blocks, 75: self.compute_capability[0], 76: self.compute_capability[1]}[attribute]

    def _cuModuleLoadDataEx(self, module, image, count, options, values):
        self.images.append(ctypes.string_at(image, fatbin.size_at(ctypes.string_at(image, 16))))
        self._modules.append(fatbin.unpack(self.images[-1])["ptx"])
        module[0] = len(self._modules)

    def _cuModuleGetFunction(self, function, module, name):
        self._functions.append((self._modules[module - 1], name.decode()))
        function[0] = len(self._functions)

    def _cuOccupancyMaxActiveBlocksPerMultiprocessor(self, blocks, function, threads, shared):
        blocks[0] = 1

    def _cuLaunchKernel(self, function, gx, gy, gz, bx, by, bz, shared, stream, parameters, extra):
        text, name = self._functions[function - 1]
        self.run(text, name, (gx, gy, gz), (bx, by, bz), shared, parameters)

    def _cuMemsetD8Async(self, address, value, size, stream):
        ctypes.memset(address, value, size)

    def run(self, text, name, grid, block, shared, parameters):
        """Runs a kernel of PTX, with `parameters` as cuLaunchKernel has them."""
        if self.mutate is not None:
            text = self.mutate(text, name)
        kernel = _kernel(text, name)
        given = [ctypes.string_at(parameters[i], p.size) for i, p in enumerate(kernel.parameters)]
        self.launches.append(Launch(name, grid[0], block[0], given[0]))
        if self.interprets:
            memory = (
                self.memory
                if self.memory is not None
                else self._memory_of(launch_parameters.parse(name, given[0]).regions())
            )
            ptx.launch(kernel, grid, block, given, memory, shared, counts=self.counts)

    def _memory_of(self, regions) -> ptx.Memory:
        """The memory that a launch may use, of a dict from address to bytes."""
        memory = ptx.Memory()
        for address, size in regions.items():
            memory.add(address, size)
        return memory

    @contextlib.contextmanager
    def installed(self):
        """Puts this driver in the place of the machine's."""
        _library().fusemin_cuda_set_driver(ctypes.byref(self.table))
        try:
            yield self
        finally:
            _library().fusemin_cuda_set_driver(None)


def device_array(array, memory, offset=0):
    """A copy of an array in memory that kernels may use, `offset` elements past a boundary of 256 bytes."""
    array = np.ascontiguousarray(array)
    buffer = np.zeros(array.nbytes + 1024, np.uint8)
    start = -(-(buffer.ctypes.data + 256) // 256) * 256 + offset * array.itemsize - buffer.ctypes.data
    view = buffer[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    view[...] = array
    memory.add_array(view)
    return view
