"""`python -m fusemin`: fits a model to data, compares the result with the published one, and times the loop."""

import contextlib
import dataclasses
import logging
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

import fusemin
from fusemin import _command_line
from fusemin.examples import eight_schools

_SMOOTHED = 100  # Steps whose loss is averaged at each end of a run.
_TIMED_STEPS = 1_000  # In each repetition, whatever --steps is: what a call costs beside its steps must not show.
_REPETITIONS = 11
_INTERRUPTED = 130  # As shells have it of a program that SIGINT ended.
_WIDTH = 100  # Where the output is no terminal, as that of `fusemin.explain`.


class OwnUpdate:
    """An optimizer of which only `apply_gradients` shows, so that nothing can stand in for it.

    >>> import keras, tensorflow as tf, fusemin
    >>> from fusemin.__main__ import OwnUpdate
    >>> fusemin.explain(OwnUpdate(keras.optimizers.Adam()), [tf.Variable(0.0)]).fused
    False
    """

    def __init__(self, optimizer):
        self._optimizer = optimizer

    def apply_gradients(self, grads_and_vars):
        return self._optimizer.apply_gradients(grads_and_vars)


@contextlib.contextmanager
def _debug_log():
    """The list that the debug log of fusemin is appended to inside the context."""
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = logging.getLogger("fusemin")
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def _start(args) -> tuple[eight_schools.MeanField, keras.optimizers.Optimizer]:
    """An approximation to fit and an optimizer, neither used before."""
    return eight_schools.MeanField(args.samples), keras.optimizers.Adam(args.learning_rate)


def run(args, progress=False) -> fusemin.Result:
    """Fits the model. The trace is a pair of the loss, in nats, and of the values of `MeanField.variables`.

    Args:
      args: what `python -m fusemin` takes.
      progress: see `fusemin.Minimizer.run`.
    """
    posterior, optimizer = _start(args)
    minimizer = fusemin.Minimizer(
        posterior.negative_elbo,
        optimizer,
        trainable_variables=posterior.variables,
        trace_fn=lambda quantities: (quantities.loss, quantities.parameters),
        jit_compile=args.jit,
    )
    return minimizer.run(args.steps, seed=(args.seed, 0), progress=progress)


def fitted(result: fusemin.Result) -> tuple[np.ndarray, list[np.ndarray]]:
    """What a run fitted.

    Returns:
      `(losses, values)`: the loss of every step, of shape [steps]; fitted values of `MeanField.variables`, the means of
      the traced ones over the second half of the steps, to average out the noise of the samples (Polyak and Juditsky
      1992, "Acceleration of stochastic approximation by averaging").
    """
    losses, parameters = result.trace
    return losses.numpy(), [np.mean(trace[result.steps // 2 :], axis=0, dtype=np.float64) for trace in parameters]


def _plot(result: fusemin.Result, path: str) -> None:
    """The curve of the loss, in a file."""
    dataclasses.replace(result, trace={"negative ELBO (nats)": result.trace[0]}).plot().savefig(path)


class Loop(NamedTuple):
    """A way to run the steps.

    Attributes:
      name: for the table.
      run: runs `_TIMED_STEPS` steps from where the variables are, returns the losses.
    """

    name: str
    run: Callable[[], Any]


def _fusemin_loop(args, name: str, wrap: Callable) -> Loop:
    posterior, optimizer = _start(args)
    minimizer = fusemin.Minimizer(
        posterior.negative_elbo,
        wrap(optimizer),
        trainable_variables=posterior.variables,
        jit_compile=args.jit,
    )
    return Loop(name, lambda: minimizer(_TIMED_STEPS, seed=(args.seed, 0)))


def _tfp_loop(args) -> Loop | None:
    """`tfp.math.minimize`, or None where it is not installed."""
    try:
        import tensorflow_probability as tfp
    except ImportError:
        return None
    posterior, optimizer = _start(args)
    optimizer.build(posterior.variables)

    # Without the tf.function every call would be traced anew.
    @tf.function(autograph=False, jit_compile=args.jit or None)
    def run(seed):
        return tfp.math.minimize(
            posterior.negative_elbo, _TIMED_STEPS, optimizer, trainable_variables=posterior.variables, seed=seed
        )

    return Loop("tfp.math.minimize", lambda: run(tf.constant([args.seed, 0])))


class Timing(NamedTuple):
    """What was measured of a loop.

    Attributes:
      name: of the loop.
      first_call: seconds of the first call, which traces.
      steps_per_second: median over the later calls.
      slowest, fastest: of the later calls, in steps per second.
      loss: mean of the last `_SMOOTHED` steps of the first call.
      log: what fusemin's debug log said in the first call.
    """

    name: str
    first_call: float
    steps_per_second: float
    slowest: float
    fastest: float
    loss: float
    log: list[str]


def _seconds(run: Callable[[], Any]) -> tuple[float, np.ndarray]:
    start = time.perf_counter()
    losses = run().numpy()
    return time.perf_counter() - start, losses


def measure(loops: list[Loop]) -> list[Timing]:
    """Runs each loop once, then all in turn `_REPETITIONS` times, so that a slow moment of the machine meets each."""
    first = []
    for loop in loops:
        with _debug_log() as log:
            first.append((*_seconds(loop.run), log))
    rates = [[] for _ in loops]
    for _ in range(_REPETITIONS):
        for loop, rate in zip(loops, rates, strict=True):
            rate.append(_TIMED_STEPS / _seconds(loop.run)[0])
    return [
        Timing(loop.name, seconds, statistics.median(rate), min(rate), max(rate), losses[-_SMOOTHED:].mean(), log)
        for loop, rate, (seconds, losses, log) in zip(loops, rates, first, strict=True)
    ]


def _print_fit(console: Console, losses: np.ndarray) -> None:
    window = min(_SMOOTHED, max(1, len(losses) // 2))
    table = Table("steps", "negative ELBO (nats), mean", title="Loss", title_justify="left")
    table.add_row(f"first {window}", f"{losses[:window].mean():.3f}")
    table.add_row(f"last {window}", f"{losses[-window:].mean():.3f}")
    console.print(table)


def _print_posterior(console: Console, moments: eight_schools.Moments) -> None:
    published = eight_schools.PUBLISHED
    table = Table(title="Posterior, in points of the test", title_justify="left")
    for column in ("", "effect", "its s.e.", "mean", "published", "sd", "published"):
        table.add_column(column, justify="right" if column else "left")
    names = ["mu", "tau", *(f"theta {school}" for school in "ABCDEFGH")]
    effects = [""] * 2 + [f"{effect:.0f}" for effect in eight_schools.EFFECTS]
    errors = [""] * 2 + [f"{error:.0f}" for error in eight_schools.STANDARD_ERRORS]
    columns = (moments.mean, published.mean, moments.sd, published.sd)
    for name, effect, error, *values in zip(names, effects, errors, *columns, strict=True):
        table.add_row(name, effect, error, *(f"{value:.2f}" for value in values))
    console.print(table)
    console.print(
        f"Published: {eight_schools.PUBLISHED_SOURCE}; Monte Carlo error of its means {published.mean_error.min():.2f} "
        f"to {published.mean_error.max():.2f}."
    )
    distance = np.abs(moments.mean - published.mean) / published.sd
    console.print(f"Farthest mean: {names[distance.argmax()]}, by {distance.max():.2f} of its published sd.")
    narrower = [name for name, fitted, known in zip(names, moments.sd, published.sd, strict=True) if fitted < known]
    if narrower:
        console.print(
            f"Smaller sd than published: {', '.join(narrower)}. A mean-field approximation leaves out how the "
            "parameters depend on each other, and so tends to be too narrow and to pull the schools together."
        )


def _print_speed(console: Console, timings: list[Timing], jit: bool) -> None:
    table = Table(
        title=f"Speed, median of {_REPETITIONS} x {_TIMED_STEPS:,} steps in turn{', compiled by XLA' if jit else ''}",
        title_justify="left",
    )
    for column in ("", "steps/s", "range", "first faster by", "first call", "loss"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for t in timings:
        # What explain does not know: how the loop was traced in truth.
        name = "fusemin, not fused" if t is timings[0] and any("apply_gradients" in line for line in t.log) else t.name
        ratio = "" if t is timings[0] else f"{timings[0].steps_per_second / t.steps_per_second:.2f}x"
        spread = f"{t.slowest:,.0f}-{t.fastest:,.0f}"
        table.add_row(name, f"{t.steps_per_second:,.0f}", spread, ratio, f"{t.first_call:.2f} s", f"{t.loss:.3f}")
    console.print(table)
    console.print(
        "Stock: the optimizer's own apply_gradients in the same loop. The first call traces and runs "
        f"{_TIMED_STEPS:,} steps, in each row from the same start and seed; it is in no median. Loss: the mean over "
        f"the last {_SMOOTHED} of these steps."
    )


def main(arguments: list[str] | None = None) -> int:
    """Runs the main job.

    Args:
      arguments: those of the command line; None for `sys.argv`.

    Returns:
      The exit status: 0, or 1 where the fit diverged, or 130 after Ctrl-C. Bad arguments exit with 2.
    """
    args = _command_line.parser().parse_args(arguments)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    console.print(
        f"fusemin {fusemin.__version__}, TensorFlow {tf.__version__}. Eight schools (Rubin 1981), mean-field "
        f"variational inference: {args.steps:,} steps of Adam({args.learning_rate:g}), {args.samples} samples a step, "
        f"seed {args.seed}.\n"
    )
    result = run(args, progress=True)
    if result.steps == 0:
        print(f"{result.message}: there is nothing to report", file=sys.stderr)
        return _INTERRUPTED
    losses, values = fitted(result)
    with np.errstate(over="ignore", invalid="ignore"):
        moments = eight_schools.mean_field_moments(values)
    if not (np.isfinite(losses).all() and np.isfinite([*moments.mean, *moments.sd]).all()):
        print("the fit diverged: try a smaller --learning-rate or more --samples", file=sys.stderr)
        return 1
    if result.status is fusemin.Status.INTERRUPTED:
        console.print(f"The fit was {result.message}. This is what they gave.\n")
    _print_fit(console, losses)
    _print_posterior(console, moments)
    if args.plot:
        _plot(result, args.plot)
        console.print(f"The curve of the loss is in {args.plot}.")
    if result.status is fusemin.Status.INTERRUPTED:
        return _INTERRUPTED
    console.print()

    loops = [
        _fusemin_loop(args, "fusemin, fused", lambda optimizer: optimizer),
        _fusemin_loop(args, "fusemin, stock", OwnUpdate),
        _tfp_loop(args),
    ]
    timings = measure([loop for loop in loops if loop is not None])
    _print_speed(console, timings, args.jit)
    if loops[-1] is None:
        console.print("tfp.math.minimize: tensorflow_probability is not installed.")
    console.print()

    posterior, optimizer = _start(args)
    console.print("What fusemin.explain says of the optimizer:")
    console.out(fusemin.explain(optimizer, posterior.variables), highlight=False)
    console.print("What the debug log of fusemin says of the timed loops:")
    for t in timings:
        for message in t.log:
            console.print(f"- {t.name}: {message}", markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
