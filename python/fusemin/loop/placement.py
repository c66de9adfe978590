"""Where a loop runs on a machine with several devices: where its variables are.

TensorFlow puts what nobody has placed on the first GPU. For variables elsewhere each step would then carry parameters,
gradients and whole traces to that GPU and back.
"""

import contextlib

import tensorflow as tf

from fusemin import _compat, graphs
from fusemin.families import find_variable
from fusemin.update.gpu_support import is_on_gpu

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


def gpus_of(variables) -> list[str]:
    """The full names of the GPUs that variables are on."""
    found = [v for v in map(find_variable, variables) if v is not None]
    return list(dict.fromkeys(v.device for v in found if is_on_gpu(v)))


def gpus_here() -> list[str]:
    """The full name of the GPU on which TensorFlow runs what is traced here and not placed, in a list, if it is one."""
    scope = _compat.device_scope()
    names = [scope] if scope else [d.name for d in tf.config.list_logical_devices("GPU")][:1]
    return [name for name in names if "GPU:" in name]
