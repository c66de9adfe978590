"""A warning where an optimization ends without a finite loss."""

import numpy as np
import tensorflow as tf

from fusemin.user_warnings import warn


def warn_of_divergence(losses) -> None:
    """Warns if the last row of a trace of losses is not finite throughout.

    Looks at the last row only, and at the others once it is not: without a copy on the CPU, a microsecond.

    Args:
      losses: a tensor with a row for each step, or a structure of them; in a graph, which has no values, ignored.
    """
    for rows in tf.nest.flatten(losses) if tf.executing_eagerly() else ():
        if rows.shape[0] == 0 or np.isfinite(last := rows[-1].numpy()).all():
            continue
        finite = np.isfinite(rows.numpy().astype(np.float64)).reshape(rows.shape[0], -1).all(axis=1)
        first = int(np.argmin(finite))
        warn(
            f"the loss is not finite: {last.ravel()[0] if last.size == 1 else 'elements of it'} after "
            f"{rows.shape[0]} steps, first at step {first}. Try a smaller learning rate or clipnorm, or look at the "
            "steps before with a `trace_fn` that returns gradients and parameters.",
            RuntimeWarning,
        )
        return
