"""`python -m pytest tests/gpu` on a machine with a GPU. What the tests do is also run on the CPU device, so that a test
that is wrong itself fails on any machine."""

import pathlib
import sys

import pytest

from fusemin._build import HAS_CUDA_KERNELS

for _folder in ("cuda", "kernels", "optimizers"):
    sys.path.append(str(pathlib.Path(__file__).parents[1] / _folder))

# Built with FUSEMIN_CUDA=OFF.
if not HAS_CUDA_KERNELS:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(params=["CPU:0", "GPU:0"])
def device(request):
    """Within the test, TensorFlow's default device. A GPU that is missing skips."""
    import tensorflow as tf

    kind = request.param.split(":")[0]
    if not tf.config.list_physical_devices(kind):
        reason = "TensorFlow sees no GPU" if tf.test.is_built_with_cuda() else "this TensorFlow is built without CUDA"
        pytest.skip(f"{reason}: nothing was tested on one")
    with tf.device(request.param):
        yield request.param
