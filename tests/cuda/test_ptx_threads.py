"""Threads of the PTX interpreter: branches, calls, special registers, shuffles, votes, barriers."""

import numpy as np
import pytest

from tests.support.cuda import ptx
from tests.support.cuda.ptx_kernels import KERNELS, run


def zeros(count):
    return np.zeros(count, np.uint32)


def test_loops_of_different_lengths():
    def steps(n):
        return 0 if n == 1 else 1 + steps(n // 2 if n % 2 == 0 else 3 * n + 1)

    assert list(run(KERNELS["collatz"], 3, 33, [zeros(99)])[0]) == [steps(n + 1) for n in range(99)]


def test_guards_and_threads_that_leave_early():
    expected = np.where(np.arange(32) < 10, 2, 6)
    expected[3] = 0
    np.testing.assert_array_equal(run(KERNELS["guards"], 1, 32, [zeros(32)])[0], expected)


def test_functions_call_functions():
    """Threads part inside and before the calls, and are together again after them."""
    n = np.arange(64)
    value = np.where(n % 32 == 5, 99, np.where(n < 10, n, 4 * n))
    np.testing.assert_array_equal(run(KERNELS["calls"], 2, 32, [zeros(64)])[0], value[n ^ 1])


def test_grids_of_three_dimensions():
    grid, block = (2, 3, 2), (4, 3, 5)
    count = np.prod(grid) * np.prod(block)
    expected = np.arange(count) + 1000 * (np.arange(count) % 60 % 32)
    np.testing.assert_array_equal(run(KERNELS["specials"], grid, block, [zeros(count)])[0], expected)


@pytest.mark.parametrize(
    ("which", "compare"),
    [("eq", np.equal), ("lt", np.less), ("le", np.less_equal), ("gt", np.greater), ("ge", np.greater_equal)],
)
def test_masks_of_lanes(which, compare):
    lanes = np.arange(32)
    expected = (compare(lanes, lanes[:, None]).astype(np.uint64) << lanes.astype(np.uint64)).sum(axis=1)
    np.testing.assert_array_equal(run(KERNELS[f"lanemask_{which}"], 1, 64, [zeros(64)])[0], np.tile(expected, 2))


@pytest.mark.parametrize("blocks", [1, 5])
def test_a_sum_over_a_block(blocks):
    values = np.random.default_rng(0).standard_normal(128 * blocks).astype(np.float32)
    warps = values.reshape(blocks, 4, 32)
    for offset in (16, 8, 4, 2, 1):
        warps = warps[..., :offset] + warps[..., offset : 2 * offset]
    expected = (warps[:, 0] + warps[:, 1] + warps[:, 2] + warps[:, 3])[:, 0]
    got = run(KERNELS["block sum"], blocks, 128, [values, np.zeros(blocks, np.float32)])[1]
    np.testing.assert_array_equal(got, expected)


def _shuffled(mode, b, c):
    """Lane read, and whether it is inside the segment, as the PTX manual writes it."""
    c_value, segment = c & 31, c >> 8 & 31
    for lane in range(32):
        low, limit = lane & segment, (lane & segment) | (c_value & ~segment)
        source = {"up": lane - b, "down": lane + b, "bfly": lane ^ b, "idx": low | (b & ~segment)}[mode]
        inside = source >= limit if mode == "up" else source <= limit
        yield source if inside else lane, inside


@pytest.mark.parametrize("name", [name for name in KERNELS if name.startswith("shfl")])
def test_shuffles(name):
    mode, b, c = name.removeprefix("shfl.").replace(",", "").split()
    lanes, inside = map(np.array, zip(*_shuffled(mode, int(b), int(c, 0)), strict=True))
    got, found = run(KERNELS[name], 2, 32, [zeros(64), zeros(64)])
    np.testing.assert_array_equal(got, 3 * np.concatenate([lanes, lanes + 32]))
    np.testing.assert_array_equal(found, np.tile(inside, 2))


def test_votes():
    # The first warp has lanes of both kinds, the second none below 20.
    expected = [20 * 8 + 1 + 20000] * 20 + [20 * 8 + 1] * 12 + [4] * 32
    assert list(run(KERNELS["votes"], 1, 64, [zeros(64)])[0]) == expected


def test_votes_of_a_block():
    # One thread of the second block is another than the rest.
    assert list(run(KERNELS["block votes"], 2, 50, [zeros(100)])[0]) == [50 + 2000] * 50 + [49 + 1000] * 50


def test_a_warp_that_is_not_full():
    # The block's last warp has 18 lanes.
    assert list(run(KERNELS["block votes"], 1, 50, [zeros(50)])[0]) == [50 + 2000] * 50


def test_a_barrier_of_the_warp_orders_its_lanes():
    assert list(run(KERNELS["warp barrier"], 1, 64, [zeros(64)])[0]) == list(np.arange(64) ^ 1)


def test_the_last_block_sees_what_all_have_written():
    parts, counter = run(KERNELS["last block"], 7, 1, [zeros(7), zeros(2)])
    assert list(parts) == [1, 2, 3, 4, 5, 6, 7]
    # The counter is back at 0, ready for the next launch.
    assert list(counter) == [0, 28]


def test_counts_of_instructions():
    counts = {}
    run(KERNELS["guards"], 1, 32, [zeros(32)], counts=counts)
    assert counts["add.s32"] == 22
    assert counts["st.global.u32"] == 31
    assert counts["exit"] == 1


def test_limits_of_a_launch():
    memory = ptx.Memory()
    out = np.uint64(memory.allocate(4))
    text = KERNELS["guards"]
    plain = ptx.Kernel(ptx.parse(text), "kernel")
    bounded = ptx.Kernel(ptx.parse(text.replace(")\n{", ")\n.maxntid 64, 1, 1\n{")), "kernel")
    required = ptx.Kernel(ptx.parse(text.replace(")\n{", ")\n.reqntid 64, 1, 1\n{")), "kernel")
    assert (plain.max_threads, bounded.max_threads) == (None, 64)
    for kernel, grid, block, message in (
        (plain, 1, 1025, "at most 1024"),
        (bounded, 1, 65, "at most 64"),
        (required, 1, 63, "64 are required"),
        (plain, 0, 1, "a grid or block of"),
        (plain, (1, 70000), 1, "a grid of"),
    ):
        with pytest.raises(ptx.PTXError, match=message):
            ptx.launch(kernel, grid, block, [out], memory)
    for arguments, message in (([], "0 arguments for 1"), ([np.uint32(1)], "4 bytes for pointer_0 of 8")):
        with pytest.raises(ptx.PTXError, match=message):
            ptx.launch(plain, 1, 1, arguments, memory)
