"""What pytest has in a process whose GPUs are stand-ins."""

import os

import pytest
import tensorflow as tf

from tests.gpu_device.stand_in import Counts, Kernels

_KERNELS = Kernels()


def pytest_configure():
    _KERNELS.install()


@pytest.fixture(autouse=True)
def kernels():
    """What runs fusemin's kernels. A test fails by what the interpreter raises, and by a copy that mistakes memory of
    the host for the device's."""
    _KERNELS.launches.clear()
    _KERNELS.interprets = True
    yield _KERNELS
    _KERNELS.raise_error()
    assert not Counts.now()["wrong memory"]


@pytest.fixture(autouse=True)
def default_device():
    """Where a test that names no device is to run."""
    with tf.device(os.environ.get("STAND_IN_DEFAULT_DEVICE")):
        yield
