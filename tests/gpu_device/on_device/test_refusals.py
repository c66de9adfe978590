"""A GPU on which the kernels do not run leaves the step to the optimizer, in words, and nothing is an error."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf

import fusemin
from fusemin.update import gpu_support
from tests.gpu_device.counting import minimizer, variables_on
from tests.gpu_device.stand_in import counted, failing

CAPABILITY = os.environ["STAND_IN_CAPABILITY"]
is_too_old = pytest.mark.skipif(CAPABILITY != "60", reason="the device is not too old")
is_new_enough = pytest.mark.skipif(CAPABILITY == "60", reason="the device is too old")


@pytest.fixture(autouse=True)
def forget_trials():
    trials = (gpu_support._try, gpu_support._try_rows)
    for trial in trials:
        trial.cache_clear()
    yield
    for trial in trials:
        trial.cache_clear()


@is_too_old
@pytest.mark.parametrize("way", ["minimize", "fuse"])
def test_a_device_that_is_too_old(way):
    check_stock(way, "variable 'x0:0' is on a GPU of compute capability 6.0, and the CUDA kernels need 7.0")


# Codes of the driver: no binary for the GPU, of a PTX that is too new, out of memory, no permission as under MPS.
CODES = (209, 222, 2, 800)


@is_new_enough
@pytest.mark.parametrize("way", ["minimize", "fuse"])
@pytest.mark.parametrize("code", CODES)
def test_a_driver_that_refuses_the_kernels(code, way):
    with failing("cuModuleLoadDataEx", code):
        reason = check_stock(way, "the CUDA kernels do not run on GPU:0: ")
    assert "loading the kernels 'adam' failed" in reason
    assert f"(error {code} of the stand-in driver)" in reason


def check_stock(way, reason):
    """That Adam takes its own step. Returns the whole reason."""
    with tf.device("GPU:0"):
        variables = variables_on(["GPU:0"])
        optimizer = keras.optimizers.Adam(0.1)
        row = fusemin.explain(optimizer, variables).rows[0]
        assert row.rule is None
        assert row.reason.startswith(reason), row.reason
        with counted() as found:
            if way == "minimize":
                minimizer(variables)(3)
            else:
                fused = fusemin.fuse(optimizer)
                fused.apply_gradients([(tf.constant(np.ones(100, np.float32)), variables[0])])
    (counts,) = found
    assert not counts.of("adam_"), counts.of("kernel")
    assert counts.kernels > 0
    return row.reason


@is_new_enough
def test_a_device_that_takes_them(kernels):
    with tf.device("GPU:0"):
        variables = variables_on(["GPU:0"])
        for _ in range(3):
            assert fusemin.explain(keras.optimizers.Adam(0.1), variables).fused
        minimizer(variables)(3)
    # The first is the trial.
    assert [launch.kernel for launch in kernels.launches if launch.kernel != "fill_rows"] == [
        "adam_0_float32_plain"
    ] * 4


@is_new_enough
def test_inside_xla_the_kernels_are_not_asked_for():
    # Of a rule that no test has loaded.
    with tf.device("GPU:0"), failing("cuModuleLoadDataEx", 209):
        variables = variables_on(["GPU:0"])
        optimizer = keras.optimizers.SGD(0.1)
        assert not fusemin.explain(optimizer, variables).fused
        traced = []

        @tf.function(jit_compile=True, autograph=False)
        def step():
            traced.append(fusemin.explain(optimizer, variables).fused)

        step.get_concrete_function()
    assert traced == [True]
