"""A loss and its gradients with respect to variables."""

import tensorflow as tf

from fusemin.loop.accessed_variables import AccessedVariables
from fusemin.loop.seed_argument import seeded
from fusemin.loop.tracing_errors import explained_tracing
from fusemin.loop.variables import as_variable_list, check_variables, unwrap_variable


def as_loss(loss):
    """What `loss_fn` returned as a tensor: itself, the value of a variable, or losses of a list in one.

    Raises:
      TypeError: it is nothing of these, or not floating.
    """
    if loss is None:
        raise TypeError("`loss_fn` must return the loss, it returned None. Is a `return` missing?")
    returned, is_list = loss, isinstance(loss, list | tuple)
    # Also what stands for a tensor, such as a variable of Keras or a DeferredTensor.
    if is_list or tf.is_tensor(loss) or isinstance(getattr(loss, "value", None), tf.Variable):
        try:
            loss = tf.convert_to_tensor(loss)
        except (TypeError, ValueError) as error:
            raise TypeError(
                "`loss_fn` must return a floating tensor, or a list of them of one shape and dtype, it returned "
                f"{returned!r}"
            ) from error
    if not tf.is_tensor(loss) or not loss.dtype.is_floating or (is_list and not returned):
        what = f"a tensor of {loss.dtype.name}" if tf.is_tensor(loss) and not is_list else repr(returned)
        hint = ""
        if tf.is_tensor(loss) and loss.dtype.is_complex:
            hint = ". Complex numbers have no least one: return tf.math.real, or tf.abs, of it"
        raise TypeError(f"`loss_fn` must return a floating tensor, it returned {what}{hint}")
    return loss


def check_gradients(gradients, names, advice: str, kind: str = "") -> None:
    """Raises a ValueError that names what has no gradient.

    Args:
      gradients: tensors or None.
      names: for each one what its user knows it by.
      kind: what they are, if the names do not say it.
      advice: out of what to leave it.
    """
    missing = [name for gradient, name in zip(gradients, names, strict=True) if gradient is None]
    if missing:
        kind = f"{kind}{'s' if len(missing) > 1 else ''} " if kind else ""
        it = "it" if len(missing) == 1 else "them"
        raise ValueError(
            f"the loss does not depend on {kind}{', '.join(missing)}: no gradient. Leave {it} out{advice}, or use {it} "
            "in `loss_fn` by differentiable operations."
        )


def differentiator(loss_fn, trainable_variables, copies=False):
    """How loss and gradients are had.

    Args:
      loss_fn: the user's loss.
      trainable_variables: what to differentiate with respect to, or None for what `loss_fn` reads.
      copies: whether it is called on each replica of a `tf.distribute` strategy, which has its own copies of them.

    Returns:
      `(differentiate, variables)`: a function from a seed, and what else `loss_fn` takes, to loss and gradients, and
      the variables as the user knows them; without `trainable_variables` a list where `differentiate` leaves those that
      `loss_fn` read.

    Raises:
      TypeError, ValueError, NotImplementedError: see `as_variable_list` and `check_variables`.
    """
    watched = None if trainable_variables is None else as_variable_list(trainable_variables)
    if watched is not None:
        check_variables([unwrap_variable(v) for v in watched], copies=copies)
    call = seeded(loss_fn)
    accessed = AccessedVariables(loss_fn) if watched is None else None

    def differentiate(seed, *inputs):
        with tf.GradientTape(watch_accessed_variables=watched is None) as tape:
            if watched is not None:
                tape.watch([unwrap_variable(v) for v in watched])
            with explained_tracing("loss_fn"):
                loss = as_loss(call(*inputs, seed=seed))
        if accessed is not None:
            return loss, accessed.select(tape, loss)
        variables = [unwrap_variable(v) for v in watched]
        gradients = tape.gradient(loss, variables)
        check_gradients(gradients, [f"'{v.name}'" for v in variables], " of `trainable_variables`", "variable")
        return loss, gradients

    return differentiate, watched if accessed is None else accessed.selected
