"""Compilation by XLA: of the whole loop, or of loss and gradients only; and what is said where XLA cannot."""

import contextlib
import re

import numpy as np
import tensorflow as tf
from tensorflow.python.ops import control_flow_util

from fusemin import graphs

# What `jit_compile` may be beside a bool.
LOSS = "loss"


def in_xla() -> bool:
    """Whether what is traced now will be compiled by XLA."""
    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


def can_compile_loop() -> bool:
    """Whether a loop of its own program in XLA can be built now.

    Not under a tape outside of the program: its gradient needs what the steps computed, and TensorFlow gives no lists
    of tensors out of XLA.
    """
    return in_xla() or not graphs.is_recorded()


def check_jit_compile(value) -> None:
    """Raises a ValueError unless the value is True, False or "loss"."""
    if not isinstance(value, bool | np.bool_) and not (isinstance(value, str) and value == LOSS):
        raise ValueError(f'`jit_compile` must be True, False or "{LOSS}", it is {value!r}')


@contextlib.contextmanager
def explained_failure(jit_compile):
    """Names the ops that XLA cannot compile, and the way out, in an error that says it failed to.

    Args:
      jit_compile: True or "loss", how what runs inside was compiled.
    """
    try:
        yield
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
        ops = _unsupported_ops(error.message)
        if not ops:
            raise
        if jit_compile == LOSS:
            advice = "Leave `jit_compile` at False."
        else:
            advice = (
                "Leave `jit_compile` at False"
                + f', or, if `loss_fn` does without, try jit_compile="{LOSS}", which compiles loss and gradients only.'
            )
        names = ", ".join(f"'{op}'" for op in ops)
        message = f"XLA cannot compile {names}, of `loss_fn`, `trace_fn` or the optimizer. {advice} {error.message}"
        raise type(error)(error.node_def, error.op, message) from error


def _unsupported_ops(message: str) -> list[str]:
    """The types of the ops that a message of XLA complains about; none if it is about something else."""
    listed = re.search(r"[Dd]etected unsupported operations when trying to compile graph \S+ on \w+: (.*)", message)
    if listed is None:
        return []
    return list(dict.fromkeys(re.findall(r"([\w>]+) \(No registered '", listed.group(1))))
