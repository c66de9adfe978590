"""Whether the CUDA kernels run on a GPU. TensorFlow is asked what it is, and then it is tried: a driver may be too old
for the kernels, or its device may have no memory left for them."""

import functools
import re

import tensorflow as tf

from fusemin._build import OPS, RULES
from fusemin.families import FusedUpdate
from fusemin.families.family import SparseUpdate, StepOptions
from fusemin.update.fused_step import fused_step

# What the oldest of the kernels is compiled for.
OLDEST_CAPABILITY = (7, 0)


def is_on_gpu(variable: tf.Variable) -> bool:
    return "/device:GPU:" in variable.device


@functools.cache
def find_capability_reason(device: str) -> str | None:
    """Why no kernel runs on a device, by its full name: it is too old. None if it is not, or nobody says."""
    physical = _physical_device(device)
    details = {} if physical is None else tf.config.experimental.get_device_details(physical)
    capability = details.get("compute_capability", OLDEST_CAPABILITY)
    if capability >= OLDEST_CAPABILITY:
        return None
    have, need = (".".join(map(str, c)) for c in (capability, OLDEST_CAPABILITY))
    return f"a GPU of compute capability {have}, and the CUDA kernels need {need}"


def _physical_device(device: str):
    """The GPU that a logical device of this process is, or is a part of. None if it is another process'."""
    job, _, name = device.partition("/device:")
    here = {logical.name.rpartition("/device:")[2] for logical in tf.config.list_logical_devices("GPU")}
    if not job.startswith("/job:localhost/") or name not in here:
        return None
    number = int(name.rpartition(":")[2])
    for physical in tf.config.get_visible_devices("GPU"):
        num_parts = len(tf.config.get_logical_device_configuration(physical) or [physical])
        if number < num_parts:
            return physical
        number -= num_parts
    return None


def find_refusal(device: str, rule: str) -> str | None:
    """Why the kernels of a rule do not run on a device, as its driver says. None if they do, or it cannot be tried.

    A rule is tried once on each device of a process, by a step on a number of its own.
    """
    if _physical_device(device) is None:
        return None
    # Also while a function is traced.
    with tf.init_scope():
        return _try(device, rule) if tf.executing_eagerly() else None


@functools.cache
def _try(device: str, rule: str) -> str | None:
    needed = RULES[rule]

    def number(dtype=tf.float32):
        return tf.Variable(tf.zeros([], dtype), trainable=False, name="trial")

    with tf.device(device):
        update = FusedUpdate(
            rule=rule,
            variables=[number()],
            slots=[[number() for _ in needed["slots"]]],
            scalars=[number() for _ in needed["scalars"]],
            iterations=number(tf.int64),
            hyperparameters=dict.fromkeys(needed["hyperparameters"], 0.5),
            options=StepOptions(),
            sparse=SparseUpdate(),
        )
        return _refusal_of(lambda: fused_step(update, [tf.zeros([])], loss=None)) or _try_rows(device)


@functools.cache
def _try_rows(device: str) -> str | None:
    """Of the kernels that are not a rule's."""
    with tf.device(device):
        return _refusal_of(lambda: OPS.fusemin_trace_rows(0, 1, [tf.zeros([])], [tf.zeros([1])], ["trial"]))


def _refusal_of(take) -> str | None:
    try:
        take()
    except tf.errors.InternalError as error:
        # TensorFlow says around it how it calls the op.
        return re.sub(r"^\{\{[^}]*\}\} *|\[Op:.*", "", error.message.splitlines()[0]).strip()
    return None


def has_kernels(device: str) -> bool:
    """Whether the kernels that write traces run on a GPU, by its full name."""
    if find_capability_reason(device):
        return False
    with tf.init_scope():
        return _physical_device(device) is None or not tf.executing_eagerly() or _try_rows(device) is None
