"""Imported by every Python process of a rehearsal before anything else: kernels of fusemin are run."""

from tests.gpu import driver_only

driver_only.load_core()

from tests.gpu_device.stand_in import Kernels  # noqa: E402

Kernels().install()
