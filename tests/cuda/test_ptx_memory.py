"""Memory of the PTX interpreter: loads and stores, spaces, regions of the process and windows, atomics."""

import ctypes

import numpy as np
import pytest

from tests.support.cuda import ptx
from tests.support.cuda.ptx_kernels import ATOMICS, KERNELS, LOADS, STORES, VECTORS, run

THREADS = 64


@pytest.mark.parametrize(("kind", "count", "size"), VECTORS)
def test_vectors(kind, count, size):
    source = np.random.default_rng(0).integers(0, 256, 3 * THREADS * count * size, dtype=np.uint8)
    _, copied = run(KERNELS[f"ld.v{count}.{kind}"], 3, THREADS, [source, np.zeros_like(source)])
    np.testing.assert_array_equal(copied, source)


@pytest.mark.parametrize("name", LOADS + STORES)
def test_hints(name):
    source = np.arange(THREADS, dtype=np.uint32) * 12345
    np.testing.assert_array_equal(run(KERNELS[name], 2, THREADS // 2, [source, np.zeros_like(source)])[1], source)


def test_narrow_loads_extend_and_narrow_stores_cut():
    source = np.arange(-32, 32, dtype=np.int8)
    np.testing.assert_array_equal(run(KERNELS["ld.s8 extends"], 1, 64, [source, np.zeros(64, np.int32)])[1], source)
    wide = np.arange(64, dtype=np.uint32) * 77
    narrow = run(KERNELS["st.u8 cuts"], 1, 64, [wide, np.zeros(64, np.uint8)])[1]
    np.testing.assert_array_equal(narrow, wide.astype(np.uint8))


def test_a_table_in_the_parameters_is_indexed_by_registers():
    kernel = ptx.Kernel(ptx.parse(KERNELS["parameter table"]), "kernel")
    assert [(p.offset, p.size, p.alignment) for p in kernel.parameters] == [(0, 48, 8), (48, 8, 8)]
    assert kernel.parameter_bytes == 56
    memory = ptx.Memory()
    out = memory.allocate(40)
    table = np.array([10, 20, 30, 40, 50], np.uint64).tobytes() + bytes([3] + 7 * [0])
    ptx.launch(kernel, 1, 5, [table, np.uint64(out)], memory)
    np.testing.assert_array_equal(memory.get(out, np.uint64, 5), [13, 23, 33, 43, 53])
    # The table is six entries long, and what comes after it is the pointer: the parameters end there.
    with pytest.raises(ptx.OutOfBounds, match="of the parameters"):
        ptx.launch(kernel, 1, 8, [table, np.uint64(out)], memory)


def test_variables_of_the_module_keep_their_values():
    kernel = ptx.Kernel(ptx.parse(KERNELS["module variables"]), "kernel")
    memory = ptx.Memory()
    out = memory.allocate(8)
    for launches in (1, 2):
        ptx.launch(kernel, 1, 1, [np.uint64(out)], memory)
        assert memory.get(out, np.float32, 1) == 3.5
        assert memory.get(out + 4, np.uint32, 1) == 5 + launches


def test_local_memory_is_each_threads_own():
    thread = np.arange(THREADS)
    expected = np.choose(thread % 4, [thread, 7, 8, thread % 32])
    np.testing.assert_array_equal(run(KERNELS["local"], 2, 32, [np.zeros(THREADS, np.uint32)])[0], expected)


def test_shared_memory_fixed_and_dynamic():
    thread = np.arange(128)
    other = thread % 64 ^ 63
    expected = thread // 64 * 64 + other + (other << 16)
    got = run(KERNELS["shared"], 2, 64, [np.zeros(128, np.uint32)], dynamic_shared=256)[0]
    np.testing.assert_array_equal(got, expected)
    with pytest.raises(ptx.OutOfBounds, match="shared address 508 of 508"):
        run(KERNELS["shared"], 2, 64, [np.zeros(128, np.uint32)], dynamic_shared=252)


def test_generic_addresses_know_their_space():
    np.testing.assert_array_equal(run(KERNELS["spaces"], 1, 32, [np.zeros(32, np.uint32)])[0], 1 + 4 + 8 + 16)


def test_memory_of_the_process_is_used_where_it_is():
    """As a driver does that is given pointers to tensors."""
    kernel = ptx.Kernel(ptx.parse(KERNELS["ld"]), "kernel")
    source = np.arange(32, dtype=np.uint32)
    target = (ctypes.c_uint32 * 32)()
    memory = ptx.Memory()
    memory.add_array(source, writable=False)
    memory.add(ctypes.addressof(target), ctypes.sizeof(target))
    pointers = [np.uint64(source.ctypes.data), np.uint64(ctypes.addressof(target))]
    ptx.launch(kernel, 1, 32, pointers, memory)
    assert list(target) == list(range(32))
    # The same twice is no error: a driver registers what each launch names.
    memory.add_array(source, writable=False)
    with pytest.raises(ptx.OutOfBounds, match="read-only"):
        ptx.launch(kernel, 1, 32, pointers[::-1], memory)
    memory.remove(ctypes.addressof(target))
    with pytest.raises(ptx.OutOfBounds):
        ptx.launch(kernel, 1, 32, pointers, memory)


def test_regions_do_not_overlap():
    memory = ptx.Memory()
    memory.add(1 << 20, 4096, name="first")
    for address in ((1 << 20) - 4, (1 << 20) + 4, (1 << 20) + 4092):
        with pytest.raises(ValueError, match="overlaps first"):
            memory.add(address, 8)
    memory.add((1 << 20) + 4096, 8)
    memory.add((1 << 20) - 8, 8)
    assert len(memory.regions) == 3


def test_what_is_put_can_be_misaligned_by_choice():
    memory = ptx.Memory()
    for offset in (0, 4, 100):
        address = memory.put(np.arange(9, dtype=np.float32), offset)
        assert address % 256 == offset
        np.testing.assert_array_equal(memory.get(address, np.float32, 9), np.arange(9))
    assert memory.get(memory.put(np.empty(0)), np.float64, 0).size == 0
    assert np.isnan(memory.get(memory.allocate(64), np.float64, 8)).all()


BASE = 1 << 45


@pytest.mark.parametrize("thread", [1, 2, 5, 31])
def test_a_window_far_into_a_large_region(thread):
    """Thread i reads 8 bytes before i 2^31: only 64-bit arithmetic finds it."""
    kernel = ptx.Kernel(ptx.parse(KERNELS["far"]), "kernel")
    memory = ptx.Memory()
    window = np.arange(4, dtype=np.uint32) + 1000
    memory.add_window(BASE, 1 << 37, (thread << 31) - 16, window, name="large")
    out = memory.put(np.zeros(32, np.uint32))
    with pytest.raises(ptx.OutOfBounds) as caught:
        ptx.launch(kernel, 1, 32, [np.uint64(BASE), np.uint64(out)], memory)
    assert "4-byte load at 0x1ffffffffff8" in str(caught.value)
    # The thread whose address is in the window, alone.
    text = KERNELS["far"].replace("mov.u32 %r1, %tid.x;", f"mov.u32 %r1, {thread};")
    ptx.launch(ptx.Kernel(ptx.parse(text), "kernel"), 1, 1, [np.uint64(BASE), np.uint64(out)], memory)
    assert memory.get(out, np.uint32, 32)[thread] == 1002


def test_outside_of_a_window():
    memory = ptx.Memory()
    with pytest.raises(ValueError, match="not inside"):
        memory.add_window(BASE, 100, 90, np.zeros(11, np.uint8))
    memory.add_window(BASE, 1 << 40, 1 << 36, np.zeros(4, np.uint32), name="large")
    with pytest.raises(ptx.OutOfBounds, match="outside of the window, 68719476752 bytes after the start of large"):
        memory.get(BASE + (1 << 36), np.uint32, 5)


def _old_and_new(name, dtype, start, values):
    """What atomics return and leave, one thread after another."""
    old, cell = [], dtype.type(start)
    for x in values:
        old.append(cell)
        cell = {
            "add": lambda c, x: c + x,
            "and": lambda c, x: c & x,
            "or": lambda c, x: c | x,
            "xor": lambda c, x: c ^ x,
            "exch": lambda c, x: x,
            "cas": lambda c, x: x if c == 3 else c,
            "min": min,
            "max": max,
            "inc": lambda c, x: dtype.type(0) if c >= x else c + dtype.type(1),
            "dec": lambda c, x: x if c == 0 or c > x else c - dtype.type(1),
        }[name](cell, x)
    return old, cell


@pytest.mark.parametrize(("name", "kind"), ATOMICS)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_atomics(name, kind):
    dtype = np.dtype({"u": "u", "s": "i", "b": "u", "f": "f"}[kind[0]] + str(int(kind[1:]) // 8))
    values = np.random.default_rng(1).integers(-9, 9, 40).astype(dtype)
    cells, _, old = run(KERNELS[f"atom.{name}.{kind}"], 2, 20, [np.full(2, 3, dtype), values, np.zeros(40, dtype)])
    expected_old, expected = _old_and_new(name, dtype, 3, values)
    np.testing.assert_array_equal(old, expected_old)
    assert cells[0] == expected
    # Without a result.
    assert cells[1] == (3 if name in ("cas", "exch") else expected)


def test_atomics_in_shared_memory_are_each_blocks_own():
    np.testing.assert_array_equal(run(KERNELS["atom.shared"], 3, 40, [np.zeros(120, np.uint32)])[0], 100 + 39 * 40 // 2)


def test_floating_point_is_exact_in_a_thread_that_flushes_denormals():
    """As TensorFlow's threads do."""
    library = ctypes.CDLL("libm.so.6")
    saved = ctypes.create_string_buffer(64)
    library.fegetenv(saved)
    flushing = ctypes.create_string_buffer(saved.raw, 64)
    # MXCSR is at byte 28; its bits 15 and 6 flush results and operands.
    ctypes.c_uint32.from_buffer(flushing, 28).value |= 0x8040
    values = np.full(128, 2.0**-130, np.float32)
    library.fesetenv(flushing)
    try:
        in_numpy = (values * np.float32(0.5))[0]
        sums = run(KERNELS["block sum"], 1, 128, [values, np.zeros(1, np.float32)])[1]
        in_numpy_after = (values * np.float32(0.5))[0]
    finally:
        library.fesetenv(saved)
    assert sums[0] == np.float32(2.0**-123)
    assert in_numpy == 0
    assert in_numpy_after == 0
