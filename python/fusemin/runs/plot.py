"""Curves of a trace, by matplotlib."""

import numpy as np
import tensorflow as tf

from fusemin.runs.leaf_names import leaf_names

# Rows in the window of the running median, as a part of all, and from how many rows on there is one.
MEDIAN_PART, MEDIAN_ROWS = 1 / 50, 100
# A curve is noisy where its steps go up and down: where the sum of their sizes is so many times what it changes by.
NOISY = 5.0
# More points than a plot can show are left out.
MOST_POINTS = 4000


def plot_trace(trace, first: int, every: int, axes=None):
    """See `Result.plot`."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'fusemin[plot]'") from error
    names = leaf_names(trace, alone="loss")
    leaves = [np.asarray(leaf) for leaf in tf.nest.flatten(trace)]
    curves = [(n, leaf) for n, leaf in zip(names, leaves, strict=True) if leaf.ndim == 1 and leaf.dtype.kind != "c"]
    if not curves or not len(curves[0][1]):
        raise ValueError("there is nothing to plot: the trace has no scalar leaf, or no rows")
    if axes is None:
        _, axes = plt.subplots(
            len(curves), 1, sharex=True, squeeze=False, figsize=(7, 1 + 3 * len(curves)), layout="constrained"
        )
    axes = np.ravel(axes)
    if len(axes) != len(curves):
        raise ValueError(f"`axes` must have {len(curves)} axes, one for each of {', '.join(n for n, _ in curves)}")
    for ax, (name, values) in zip(axes, curves, strict=True):
        _draw(ax, name, first + every * np.arange(len(values)), values.astype(np.float64))
    axes[-1].set_xlabel("step")
    return axes[0].figure


def _draw(ax, name: str, steps: np.ndarray, values: np.ndarray) -> None:
    thin = slice(None, None, -(-len(values) // MOST_POINTS))
    finite = values[np.isfinite(values)]
    noisy = len(finite) >= MEDIAN_ROWS and np.abs(np.diff(finite)).sum() > NOISY * max(np.ptp(finite), 1e-300)
    ax.plot(steps[thin], values[thin], linewidth=1, alpha=0.35 if noisy else 1, label=name)
    if noisy:
        window = max(3, int(MEDIAN_PART * len(values)) | 1)
        windows = np.lib.stride_tricks.sliding_window_view(values, window)[thin]
        ax.plot(
            steps[window // 2 :][: len(values) - window + 1][thin],
            np.nanmedian(windows, axis=1),
            color=ax.lines[0].get_color(),
            label=f"median of {window} rows",
        )
        ax.legend()
    if len(finite) and (finite > 0).all():
        ax.set_yscale("log")
    ax.set_ylabel(name)
