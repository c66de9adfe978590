"""Sizes that do not fit in 32 bits, and scalars and tensors up to 10^8 elements, run where memory is free for them."""

import ml_dtypes
import numpy as np
import psutil
import pytest

from fusemin import _core

GIB = 2**30


def need(bytes_needed):
    """Skips the test unless so much memory is free, and a third more."""
    free = psutil.virtual_memory().available
    if free < bytes_needed * 4 // 3:
        pytest.skip(f"needs {bytes_needed / GIB:.1f} GiB of memory and a third more, {free / GIB:.1f} GiB are free")


@pytest.mark.parametrize("size", [1, 10**8])
def test_a_tensor_of_1_and_of_100_million_elements(size):
    need(2 * 2 * size)
    param, gradient = (np.full(size, x, ml_dtypes.bfloat16) for x in (1.0, 0.5))
    _core.step("sgd", [param], [gradient], hyperparameters=[0.5], num_threads=2)
    # Written out: a comparison of all elements would take ten times as long in this dtype.
    bits = np.uint16(np.array(0.75, ml_dtypes.bfloat16).view(np.uint16))
    assert np.array_equal(np.unique(param.view(np.uint16)[:: max(size // 10**6, 1)]), [bits])
    assert param[-1] == 0.75


def test_more_than_2_to_the_31_elements_in_all():
    """3 tensors of 800 million elements that share one gradient; also in chunks, which are counted through them."""
    size = 800_000_000
    need(2 * (3 * size + size))
    params = [np.zeros(size, np.float16) for _ in range(3)]
    gradient = np.zeros(size, np.float16)
    spots = [0, 12_345_678, size - 1]
    gradient[spots] = [1.0, 2.0, 4.0]
    for options in ({}, {"options": {"clipvalue": 2.0}}):
        _core.step("sgd", params, [gradient] * 3, hyperparameters=[1.0], num_threads=2, **options)
    for param in params:
        np.testing.assert_array_equal(param[spots], [-2.0, -4.0, -6.0])
        assert np.count_nonzero(param.view(np.uint64)) == len(spots)


def test_a_sparse_gradient_of_a_table_of_more_than_2_to_the_31_elements():
    """Positions of elements are of 64 bits also where only rows are touched."""
    shape = (2**21, 1040)
    need(2 * shape[0] * shape[1])
    table = np.zeros(shape, np.float16)
    indices = np.array([2**21 - 1, 5, 2**21 - 1, 2**20 + 1])
    values = np.ones((4, shape[1]), np.float16)
    _core.step("sgd", [table], [values], hyperparameters=[0.5], num_threads=2, indices=[indices], sparse_rows="touched")
    np.testing.assert_array_equal(table[[5, 2**20 + 1, 2**21 - 1]], np.array([[-0.5], [-0.5], [-1.0]]) * values[:3])
    assert np.count_nonzero(table[[4, 6, 2**20, 2**21 - 2]]) == 0
