"""`python -m pytest tests/gpu` on a machine with a GPU. What the tests do is also run on the CPU device, so that a test
that is wrong itself fails on any machine. What needs a GPU is not collected without one."""

import pytest

from tests.support.cuda.gpus import why_no_gpu


@pytest.fixture(params=["CPU:0"] if why_no_gpu() else ["CPU:0", "GPU:0"])
def device(request):
    """Within the test, TensorFlow's default device. A GPU that TensorFlow does not see skips."""
    import tensorflow as tf

    kind = request.param.split(":")[0]
    if not tf.config.list_physical_devices(kind):
        reason = "TensorFlow sees no GPU" if tf.test.is_built_with_cuda() else "this TensorFlow is built without CUDA"
        pytest.skip(f"{reason}: nothing was tested on one")
    with tf.device(request.param):
        yield request.param
