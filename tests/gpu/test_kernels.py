"""The kernels on a GPU through the driver API alone: driver_only.py in tests."""

import pytest

from tests.gpu import driver_only
from tests.support.cuda import cuda_driver


@pytest.fixture(scope="module")
def machine():
    return cuda_driver.GpuMachine(cuda_driver.open_library())


def _steps():
    return [pytest.param(take, id="-".join(name)) for name, take in driver_only.all_steps()]


@pytest.mark.parametrize("take", _steps())
def test_step(machine, take):
    take(machine)


def test_more_than_2_31_elements(machine):
    left_out = driver_only.past_2_31(machine)
    if left_out:
        pytest.skip(left_out)
