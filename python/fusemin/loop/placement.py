"""Where a loop runs on a machine with several devices: where its variables are.

TensorFlow puts what nobody has placed on the first GPU. For variables elsewhere each step would then carry parameters,
gradients and whole traces to that GPU and back.
"""

import contextlib

import tensorflow as tf

from fusemin import _compat, graphs
from fusemin.families import find_variable

# TensorFlow keeps these in the memory of the host where a loop carries them, also on a GPU.
_OF_HOST = (tf.int32, tf.string)


def beside(variables):
    """A scope of the device of these variables, for all that is built or run in it and not placed otherwise.

    There is none inside of a `tf.device` of the user's, inside XLA, and for variables on several devices.
    """
    if not _has_several_devices() or graphs.in_xla() or _compat.is_in_device_scope():
        return contextlib.nullcontext()
    devices = {v.device for v in map(find_variable, variables) if v is not None}
    return tf.device(devices.pop()) if len(devices) == 1 else contextlib.nullcontext()


def _has_several_devices() -> bool:
    return len(tf.config.list_logical_devices()) > 1


def is_of_host(dtype: tf.DType) -> bool:
    """Whether a trace of this dtype must be in the memory of the host: elsewhere it would be copied at each step."""
    return dtype in _OF_HOST and not graphs.in_xla() and bool(tf.config.list_logical_devices("GPU"))


def host_scope(dtype: tf.DType):
    """The scope in which a trace of this dtype is allocated and written."""
    return tf.device("CPU:0") if is_of_host(dtype) else contextlib.nullcontext()


def is_on_gpu(variables) -> bool:
    """Whether one of these variables is on a GPU."""
    return any("/device:GPU:" in v.device for v in map(find_variable, variables) if v is not None)


def is_gpu_here() -> bool:
    """Whether what is traced here and not placed runs on a GPU."""
    scope = _compat.device_scope()
    return "GPU:" in scope if scope else bool(tf.config.list_logical_devices("GPU"))
