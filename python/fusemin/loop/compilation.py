"""Compilation by XLA: of the whole loop, or of loss and gradients only; and what is said where XLA cannot."""

import contextlib
import re
from pathlib import Path

import tensorflow as tf

from fusemin import graphs
from fusemin.arguments import as_flag

# What `jit_compile` may be beside a bool.
LOSS, AUTO = "loss", "auto"


def can_compile_loop() -> bool:
    """Whether a loop of its own program in XLA can be built now.

    Not under a tape outside of the program: its gradient needs what the steps computed, and TensorFlow gives no lists
    of tensors out of XLA.
    """
    return graphs.in_xla() or not graphs.is_recorded()


def as_jit_compile(value) -> bool | str:
    """`jit_compile` by its truth, as in TensorFlow Probability, or "loss" or "auto".

    Raises:
      ValueError: it is another str.
      TypeError: its truth is not known.
    """
    if not isinstance(value, str) or not value:
        return as_flag(value, "jit_compile")
    if value not in (LOSS, AUTO):
        raise ValueError(f'`jit_compile` must be True, False, "{AUTO}" or "{LOSS}", it is {value!r}')
    return value


@contextlib.contextmanager
def explained_failure(jit_compile, has_loss_mode=True):
    """Names the ops that XLA cannot compile, where they were made, and the way out, in an error that says it failed to.

    What TensorFlow says is the cause of the error.

    Args:
      jit_compile: True or "loss", how what runs inside was compiled.
      has_loss_mode: whether it can be "loss".
    """
    try:
        yield
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
        failure = described_failure(error.message)
        if failure is None:
            raise
        advice = "Leave `jit_compile` at False"
        if jit_compile != LOSS and has_loss_mode and _LOSS_FUNCTION not in error.message:
            advice += (
                f', or, if `loss_fn` does without, try jit_compile="{LOSS}", which compiles loss and gradients only'
            )
        raise type(error)(error.node_def, error.op, f"{failure}. {advice}.") from error


def described_failure(message: str) -> str | None:
    """Which ops XLA cannot compile and where they were made, in words; None if a message of XLA is about something
    else."""
    ops = _unsupported_ops(message)
    if not ops:
        return None
    where = "`loss_fn`" if _LOSS_FUNCTION in message else "`loss_fn`, `trace_fn` or the optimizer"
    names = ", ".join(f"'{op}'" for op in ops)
    return f"XLA cannot compile {names}, of {where}{_line_of_user(message)}"


# How TensorFlow calls what `fusemin.loop.differentiation` traces.
_LOSS_FUNCTION = "__inference_differentiate"

_HERE = str(Path(__file__).parent).lstrip("/")


def _line_of_user(message: str) -> str:
    """Where an op was made, ", at line 3 of fit.py" for example, from the stack in a message; "" if it has none."""
    stack = message.partition("The op is created at:")[2].partition("\n\n")[0]
    lines = [m for m in re.findall(r'File "([^"]+)", line (\d+)', stack) if not m[0].lstrip("/").startswith(_HERE)]
    return f", at line {lines[-1][1]} of {lines[-1][0]}" if lines else ""


def _unsupported_ops(message: str) -> list[str]:
    """The types of the ops that a message of XLA complains about; none if it is about something else."""
    listed = re.search(r"[Dd]etected unsupported operations when trying to compile graph \S+ on \w+: (.*)", message)
    if listed is None:
        return []
    return list(dict.fromkeys(re.findall(r"([\w>]+) \((?:No registered '|OpKernel was found)", listed.group(1))))
