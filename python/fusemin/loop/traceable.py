"""What a `trace_fn` is given, and how it is called."""

import collections
import inspect
from collections.abc import Callable

import tensorflow as tf

from fusemin.arguments import check_callable
from fusemin.loop.tracing_errors import explained_tracing


class MinimizeTraceableQuantities(
    collections.namedtuple(
        "MinimizeTraceableQuantities",
        [
            "step",
            "loss",
            "gradients",
            "parameters",
            "has_converged",
            "convergence_criterion_state",
            "optimizer_state",
            "seed",
        ],
    )
):
    """Quantities of one optimization step that a `trace_fn` may return, the fields of `tfp.math`'s tuple of this name.

    Attributes:
      step: int32 scalar `Tensor`, the index of the step, counted from 0.
      loss: float `Tensor`, what `loss_fn` returned, evaluated before the update of this step.
      gradients: list of `Tensor`s, the gradients of the loss with respect to the parameters (in `minimize_stateless`,
        the structure of `init`).
      parameters: list of `Tensor`s, the parameters after the update of this step, in the order of `trainable_variables`
        (in `minimize_stateless`, the structure of `init`).
      has_converged: bool `Tensor` of the shape of the loss; all False without a `convergence_criterion`.
      convergence_criterion_state: what the `convergence_criterion` carries from step to step; `()` without one.
      optimizer_state: the state of a pure optimizer in `minimize_stateless`; else `()`.
      seed: int32 `Tensor` of shape [2], the seed that the next step starts from; -1 if no seed was given.
    """

    __slots__ = ()


def quantities_of_step(
    step,
    loss,
    gradients,
    parameters,
    *,
    has_converged=None,
    criterion_state=(),
    optimizer_state=(),
    seed=None,
) -> MinimizeTraceableQuantities:
    """The quantities of a step, with what stands for those that it has not.

    Args:
      step, loss, gradients, parameters, optimizer_state: the attributes of these names.
      has_converged: None before there is a decision, or without a criterion: then nothing has.
      criterion_state: the attribute `convergence_criterion_state`.
      seed: None without one.
    """
    return MinimizeTraceableQuantities(
        step=step,
        loss=loss,
        gradients=gradients,
        parameters=parameters,
        has_converged=tf.zeros(tf.shape(loss), tf.bool) if has_converged is None else has_converged,
        convergence_criterion_state=criterion_state,
        optimizer_state=optimizer_state,
        seed=tf.constant(-1) if seed is None else seed,
    )


def trace_loss(traceable_quantities: MinimizeTraceableQuantities) -> tf.Tensor:
    """The default `trace_fn`: the loss of every step."""
    return traceable_quantities.loss


def _accepts(function: Callable, num_arguments: int) -> bool:
    signature = inspect.signature(function, follow_wrapped=False)
    try:
        signature.bind(*range(num_arguments))
    except TypeError:
        return False
    wrapped = getattr(function, "__wrapped__", None)
    hands_on = any(p.kind == p.VAR_POSITIONAL for p in signature.parameters.values())
    return _accepts(wrapped, num_arguments) if hands_on and callable(wrapped) else True


def _takes_quantities(trace_fn: Callable) -> bool:
    """Whether a `trace_fn` takes the traceable quantities; else it takes (loss, grads, variables).

    Raises:
      TypeError: it takes neither one argument nor three.
    """
    check_callable(trace_fn, "trace_fn")
    try:
        if _accepts(trace_fn, 1):
            return True
        if _accepts(trace_fn, 3):
            return False
    except ValueError:  # Some builtins have no signature.
        return True
    raise TypeError(
        "`trace_fn` must take one argument, the traceable quantities, or three: (loss, grads, variables). "
        f"Its signature is {inspect.signature(trace_fn)}."
    )


def normalize_trace_fn(trace_fn: Callable, variables: list) -> Callable[[MinimizeTraceableQuantities], object]:
    """`trace_fn` as a function of the traceable quantities.

    The form of `tfp.math.minimize` before 0.12, `trace_fn(loss, grads, variables)`, is told apart by its signature.

    Args:
      trace_fn: the user's function.
      variables: the variables to hand to the older form.

    Raises:
      TypeError: it takes neither one argument nor three.
    """
    if _takes_quantities(trace_fn):
        return explained_trace_fn(trace_fn)
    return explained_trace_fn(lambda quantities: trace_fn(quantities.loss, quantities.gradients, variables))


def explained_trace_fn(trace_fn: Callable) -> Callable:
    """`trace_fn` with errors that say that it is traced, where they come of it."""
    check_callable(trace_fn, "trace_fn")

    def explained(quantities):
        with explained_tracing("trace_fn"):
            return trace_fn(quantities)

    return explained
