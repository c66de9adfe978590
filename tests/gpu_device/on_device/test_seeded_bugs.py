"""Bugs, each put into fusemin in turn, and what finds it. That of a wrong HostMemory needs a process of its own:
`test_on_device.py`."""

import pytest
import tensorflow as tf

from fusemin.loop import placement, variable_step
from fusemin.update.fused_step import fused_step
from tests.gpu_device.on_device.test_counts import (
    check_a_long_trace_inside_xla,
    check_inside_xla,
    check_the_default_loop,
)


@pytest.fixture(autouse=True)
def without_interpreting(kernels):
    kernels.interprets = False


def a_copy(update, gradients, loss, sources, buffers, *others):
    """The trace goes to the host after each step."""
    written = fused_step(update, gradients, loss, sources, buffers, *others)
    with tf.device("CPU:0"):
        return [-trace for trace in written]


def a_synchronisation(update, gradients, loss, *others):
    """The host waits for the loss before it goes on, and does not look at it."""
    with tf.control_dependencies([loss]), tf.device("CPU:0"):
        waited = tf.timestamp()
    with tf.control_dependencies([waited]):
        return fused_step(update, gradients, loss, *others)


def a_lost_in_place(update, gradients, loss, *others):
    """Something still refers to what the parameters were."""
    before = [variable.read_value() for variable in update.variables]
    written = fused_step(update, gradients, loss, *others)
    with tf.control_dependencies(written):
        return [trace + 1e-9 * tf.add_n([tf.reduce_sum(old) for old in before]) for trace in written]


def an_order(update, gradients, loss, *others):
    """The update waits for the loss, inside XLA too."""
    ordered = [tf.where(tf.math.is_nan(loss), tf.zeros_like(g), g) for g in gradients]
    return fused_step(update, ordered, loss, *others)


FOUND_BY = {
    "a copy": (a_copy, r"cuMemcpyDtoHAsync"),
    "a synchronisation": (a_synchronisation, r"cuEventRecord"),
    "a lost in-place": (a_lost_in_place, "wrote to other memory than it read"),
}


@pytest.mark.parametrize("bug", FOUND_BY)
def test_the_default_loop_finds(bug, kernels, monkeypatch):
    step, message = FOUND_BY[bug]
    monkeypatch.setattr(variable_step, "fused_step", step)
    with pytest.raises(AssertionError, match=message):
        check_the_default_loop(kernels, 1, "loss")


def test_an_order_inside_xla_is_found(monkeypatch):
    monkeypatch.setattr(variable_step, "fused_step", an_order)
    with pytest.raises(AssertionError, match="kernel in a graph"):
        check_inside_xla(20)


def test_chunks_inside_xla_are_found(monkeypatch):
    monkeypatch.setattr(placement, "gpus_of", lambda variables: [])
    with pytest.raises(tf.errors.OpError, match="error 1 of the stand-in driver"):
        check_a_long_trace_inside_xla()
