"""What pytest has in a process whose GPUs are stand-ins."""

import pytest

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
