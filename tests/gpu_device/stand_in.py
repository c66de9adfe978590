"""The stand-in driver from within a process that runs on it: its counts, and the interpreter as what runs kernels."""

from __future__ import annotations

import ctypes
import functools
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from fusemin import _core
from tests.support.cuda import fatbin, launch_parameters, ptx
from tests.support.cuda.interpreting_driver import InterpretingDriver

# What moves memory between host and device or from device to device.
COPIES = (
    "cuMemcpyHtoD",
    "cuMemcpyHtoDAsync",
    "cuMemcpyDtoH",
    "cuMemcpyDtoHAsync",
    "cuMemcpyDtoD",
    "cuMemcpyDtoDAsync",
    "cuMemcpy",
    "cuMemcpyAsync",
    "cuMemcpyPeerAsync",
)
# What waits for the device, or has another stream or TensorFlow's thread of events wait for it.
SYNCHRONISATIONS = (
    "cuCtxSynchronize",
    "cuStreamSynchronize",
    "cuStreamQuery",
    "cuStreamWaitEvent",
    "cuEventQuery",
    "cuEventRecord",
    "cuEventSynchronize",
    "cudaDeviceSynchronize",
    "cudaStreamSynchronize",
)
_UINTS = ctypes.POINTER(ctypes.c_uint)
_INTERPRETER = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_void_p,
    _UINTS,
    _UINTS,
    ctypes.c_uint,
    ctypes.POINTER(ctypes.c_void_p),
)
_PARAMETER_BYTES = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_char_p, ctypes.c_void_p)


@functools.cache
def library() -> ctypes.CDLL:
    """The stand-in driver. An AttributeError where libcuda.so.1 is another."""
    driver = ctypes.CDLL("libcuda.so.1")
    driver.stand_in_counts.restype = ctypes.c_char_p
    driver.stand_in_view.argtypes = [ctypes.c_uint64, ctypes.c_size_t]
    driver.stand_in_view.restype = ctypes.c_void_p
    driver.stand_in_fail.argtypes = [ctypes.c_char_p, ctypes.c_int]
    return driver


def view(address: int, size: int) -> np.ndarray:
    """Bytes of the device, as the host may see them."""
    found = library().stand_in_view(address, size)
    if not found:
        raise ptx.OutOfBounds(f"{address:#x} and the {size} bytes from there are not of one allocation of the device")
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(found))


class Counts(Mapping):
    """How often each function was called and each kernel launched, "kernel NAME"; 0 of what was not.

    Attributes:
      num_bytes: of each name.
    """

    def __init__(self, calls: Mapping[str, float], num_bytes: Mapping[str, float]):
        self._calls, self.num_bytes = dict(calls), dict(num_bytes)

    @classmethod
    def now(cls) -> Counts:
        lines = [line.split(" ", 2) for line in library().stand_in_counts().decode().splitlines()]
        return cls({name: int(n) for n, _, name in lines}, {name: int(size) for _, size, name in lines})

    def __getitem__(self, name):
        return self._calls.get(name, 0)

    def __iter__(self) -> Iterator[str]:
        return iter(self._calls)

    def __len__(self):
        return len(self._calls)

    def a_step(self, fewer: Counts, num_steps: int) -> Counts:
        """What is called at each of the `num_steps` steps that `fewer` has not."""
        names = {*self, *fewer}
        return Counts(
            {name: (self[name] - fewer[name]) / num_steps for name in names},
            {name: (self.num_bytes.get(name, 0) - fewer.num_bytes.get(name, 0)) / num_steps for name in names},
        )

    def sum(self, names) -> float:
        return sum(self[name] for name in names)

    @property
    def copies(self) -> float:
        return self.sum(COPIES)

    @property
    def host_copies(self) -> float:
        """Of memory of the host to a device, or back."""
        return self.sum(name for name in COPIES if "HtoD" in name or "DtoH" in name)

    @property
    def copied_bytes(self) -> float:
        return sum(self.num_bytes.get(name, 0) for name in COPIES)

    @property
    def synchronisations(self) -> float:
        return self.sum(SYNCHRONISATIONS)

    @property
    def kernels(self) -> float:
        """All launches, each of a graph for itself."""
        return self.sum(name for name in self if name.startswith("kernel "))

    def of(self, *words: str) -> dict[str, float]:
        """What was called and has one of these words in its name."""
        return {name: n for name, n in self.items() if n and any(word in name for word in words)}


@contextmanager
def counted() -> Iterator[list[Counts]]:
    """A list that has the counts of what ran inside as its one element afterwards."""
    found: list[Counts] = []
    library().stand_in_reset()
    yield found
    found.append(Counts.now())


@contextmanager
def failing(function: str, error: int):
    """Inside, a function of the driver fails with this code."""
    library().stand_in_fail(function.encode(), error)
    try:
        yield
    finally:
        library().stand_in_fail(function.encode(), 0)


class Kernels(InterpretingDriver):
    """Runs fusemin's kernels in the memory of the stand-in device, all accesses checked."""

    def _memory_of(self, regions):
        memory = ptx.Memory()
        for address, size in regions.items():
            memory.add_window(address, size, 0, view(address, size))
        return memory

    @functools.cached_property
    def _functions_for_driver(self):
        own = set(_core.cuda.images().values())

        @functools.cache
        def ptx_of(fat_binary):
            image = ctypes.string_at(fat_binary, fatbin.size_at(ctypes.string_at(fat_binary, 16)))
            return fatbin.unpack(image)["ptx"] if image in own else None

        def parameter_bytes(kernel, fat_binary):
            if ptx_of(fat_binary) is None:  # TensorFlow's.
                return 0
            return ctypes.sizeof(launch_parameters.parameters_of(kernel.decode()))

        def interpret(kernel, fat_binary, grid, block, shared, parameters):
            try:
                text = ptx_of(fat_binary)
                if int(re.search(rb"\.target sm_(\d+)", text)[1]) > int(os.environ["STAND_IN_CAPABILITY"]):
                    return 209  # CUDA_ERROR_NO_BINARY_FOR_GPU
                self.run(text, kernel.decode(), tuple(grid[:3]), tuple(block[:3]), shared, parameters)
            except BaseException as error:  # It cannot pass through C.
                self.error = error
                return 719  # CUDA_ERROR_LAUNCH_FAILED
            return 0

        return _INTERPRETER(interpret), _PARAMETER_BYTES(parameter_bytes)

    def install(self) -> Kernels:
        """From now on the stand-in driver has kernels run by this."""
        library().stand_in_set_interpreter(*self._functions_for_driver)
        library().interpreter = self  # The driver does not keep it.
        return self

    def steps(self) -> list[launch_parameters.StepParameters]:
        """The parameters of the launches so far, of rows apart."""
        return [launch_parameters.parse(x.kernel, x.parameters) for x in self.launches if x.kernel != "fill_rows"]
