"""Compilation by XLA: of the whole loop, or of loss and gradients only; and what is said where XLA cannot."""

import contextlib
import re

import tensorflow as tf
from tensorflow.python.ops import control_flow_util

from fusemin.arguments import as_flag

# What `jit_compile` may be beside a bool.
LOSS = "loss"


def in_xla() -> bool:
    """Whether what is traced now will be compiled by XLA."""
    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


def as_jit_compile(value) -> bool | str:
    """`jit_compile` by its truth, as in TensorFlow Probability, or "loss".

    Raises:
      ValueError: it is another str.
      TypeError: its truth is not known.
    """
    if not isinstance(value, str) or not value:
        return as_flag(value, "jit_compile")
    if value != LOSS:
        raise ValueError(f'`jit_compile` must be True, False or "{LOSS}", it is {value!r}')
    return value


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
