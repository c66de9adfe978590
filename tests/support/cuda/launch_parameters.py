"""The parameters of a launch as C structures: csrc/backends/cuda/parameters.h, read back from what the driver got."""

from __future__ import annotations

import ctypes

import numpy as np

from fusemin import _core

MAX_SLOTS, MAX_HYPERPARAMETERS, MAX_SCALARS = 4, 8, 3
ROLES = [
    "gradient",
    "param_in",
    "param_out",
    *[f"slot_in{k}" for k in range(MAX_SLOTS)],
    *[f"slot_out{k}" for k in range(MAX_SLOTS)],
    "average_in",
    "average_out",
    "accumulator_in",
    "accumulator_out",
    "gradient_row",
    "param_row",
]
NUM_SCALARS = MAX_SCALARS + 3
PARAMETER_BYTES, HEADER_BYTES = 4096, 400
SIZE_BITS = 64 - 1 - len(ROLES)
DTYPE_BYTES = [4, 8, 2, 2]
# ScalarType: absent, a number, float32, float64, float16, bfloat16, int32, int64.
SCALAR_BYTES = [0, 0, 4, 8, 2, 2, 4, 8]
SUMS_BYTES = 16


class ScalarMemory(ctypes.Structure):
    _fields_ = [("input", ctypes.c_uint64), ("out", ctypes.c_uint64)]


class SmallCopy(ctypes.Structure):
    _fields_ = [("to", ctypes.c_uint64), ("source", ctypes.c_uint64), ("bytes", ctypes.c_uint32)]


class StepParameters(ctypes.Structure):
    _fields_ = [
        ("options", ctypes.c_double * len(_core.options())),
        ("hyperparameters", ctypes.c_uint64 * MAX_HYPERPARAMETERS),
        ("scalars", ScalarMemory * NUM_SCALARS),
        ("copies", SmallCopy * 2),
        ("chunk_sums", ctypes.c_uint64),
        ("gradient_sums", ctypes.c_uint64),
        ("tickets", ctypes.c_uint64),
        ("first_chunk", ctypes.c_uint64),
        ("first_tensor", ctypes.c_uint32),
        ("num_tensors", ctypes.c_uint32),
        ("num_step_tensors", ctypes.c_uint32),
        ("chunk", ctypes.c_uint32),
        ("num_chunks", ctypes.c_uint32),
        ("hyperparameter_types", ctypes.c_uint8 * MAX_HYPERPARAMETERS),
        ("scalar_types", ctypes.c_uint8 * NUM_SCALARS),
        ("position", ctypes.c_int8 * len(ROLES)),
        ("aligned_mask", ctypes.c_uint32),
        ("num_pointers", ctypes.c_uint8),
        ("num_copies", ctypes.c_uint8),
        ("phase", ctypes.c_uint8),
        ("dtype", ctypes.c_int32),
        ("accumulated", ctypes.c_bool),
        ("is_last_of_gradient", ctypes.c_bool),
        ("finishes", ctypes.c_bool),
        ("table", ctypes.c_uint64 * ((PARAMETER_BYTES - HEADER_BYTES) // 8)),
    ]

    def tensors(self):
        """For each tensor of the launch a dict: "size", "decays", "first_chunk", and the address of each role."""
        n, width = self.num_tensors, self.num_pointers
        starts = np.frombuffer(bytes(self.table), np.uint32)[2 * n * (width + 1) :]
        tensors = []
        for t in range(n):
            word = self.table[n * width + t]
            tensor = {
                "size": word & ((1 << SIZE_BITS) - 1),
                "decays": bool(word >> SIZE_BITS & 1),
                "first_chunk": int(starts[t]),
            }
            for role, position in zip(ROLES, self.position, strict=True):
                if position >= 0:
                    tensor[role] = self.table[t * width + position]
            tensors.append(tensor)
        return tensors

    def regions(self):
        """The memory that the launch may use, as a dict from address to bytes."""
        size = DTYPE_BYTES[self.dtype]
        tensors = self.tensors()
        regions = {}

        def add(address, count):
            if address and count:
                regions[address] = max(count, regions.get(address, 0))

        for tensor in tensors:
            for role in ROLES:
                add(tensor.get(role, 0), tensor["size"] * size)
        for kind, memory in zip(self.scalar_types, self.scalars, strict=True):
            add(memory.input, SCALAR_BYTES[kind])
            add(memory.out, SCALAR_BYTES[kind])
        for kind, address in zip(self.hyperparameter_types, self.hyperparameters, strict=True):
            if SCALAR_BYTES[kind]:
                add(address, SCALAR_BYTES[kind])
        for copy in self.copies[: self.num_copies]:
            add(copy.to, copy.bytes)
            add(copy.source, copy.bytes)
        add(self.chunk_sums, (self.first_chunk + self.num_chunks) * SUMS_BYTES)
        # Of the gradients, the rule and the moves.
        add(self.gradient_sums, 3 * self.num_step_tensors * SUMS_BYTES)
        add(self.tickets, 4 * (1 + self.num_tensors))
        return regions


class RowFill(ctypes.Structure):
    _fields_ = [
        ("to", ctypes.c_uint64),
        ("source", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
        ("count", ctypes.c_uint64),
        ("first_part", ctypes.c_uint32),
        ("width", ctypes.c_uint32),
    ]


class RowFillParameters(ctypes.Structure):
    _fields_ = [
        ("num_fills", ctypes.c_uint32),
        ("num_parts", ctypes.c_uint32),
        ("fills", RowFill * ((PARAMETER_BYTES - 8) // ctypes.sizeof(RowFill))),
    ]

    def regions(self):
        """As of StepParameters."""
        regions = {}
        for fill in self.fills[: self.num_fills]:
            regions[fill.to] = fill.bytes * fill.count
            regions[fill.source] = max(fill.bytes, regions.get(fill.source, 0))
        return regions


def parameters_of(kernel: str):
    """The structure that a kernel takes."""
    return RowFillParameters if kernel == "fill_rows" else StepParameters


def parse(kernel: str, parameters: bytes):
    """The parameters of a launch of a kernel."""
    kind = parameters_of(kernel)
    if len(parameters) != ctypes.sizeof(kind):
        raise ValueError(f"{kernel} takes {len(parameters)} bytes, {kind.__name__} has {ctypes.sizeof(kind)}")
    return kind.from_buffer_copy(parameters)
