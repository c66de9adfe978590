"""A warning where an optimization ends without a finite loss."""

import numpy as np
import tensorflow as tf

from fusemin.user_warnings import warn


def warn_of_divergence(losses) -> None:
    """Warns if the last row of a trace of losses is not finite throughout.

    Looks at the last row only, and at the others once it is not. That takes some microseconds, and a copy of losses
    that are on a GPU.

    Args:
      losses: a tensor with a row for each step, or a structure of them; in a graph, which has no values, ignored.
    """
    for rows in tf.nest.flatten(losses) if tf.executing_eagerly() else ():
        rows = np.asarray(rows)  # Of the memory of a tensor on the CPU.
        if len(rows) == 0 or np.isfinite(rows[-1]).all():
            continue
        finite = np.isfinite(rows).reshape(len(rows), -1).all(axis=1)
        last = str(rows[-1].item()) if rows[-1].size == 1 else "elements of it"
        warn(
            f"the loss is not finite: {last} after {len(rows)} steps, first at step {int(np.argmin(finite))}. Try a "
            "smaller learning rate or clipnorm, or look at the steps before with a `trace_fn` that returns gradients "
            "and parameters.",
            RuntimeWarning,
        )
        return
