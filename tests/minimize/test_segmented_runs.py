"""A run that is taken segment by segment is the run in one piece, to the bit."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import fusemin
from fusemin.loop import seeds
from fusemin.loop.convergence import LossNotDecreasing
from fusemin.loop.loop import Options
from fusemin.loop.segmented_run import SegmentedRun, SegmentProgram
from fusemin.loop.variable_step import VariableStep

NUM_STEPS = 37
CAPACITY = 16
SPLITS = ([1] * NUM_STEPS, [5, 16, 16], [16, 1, 4, 16], [2, 3, 16, 16])


class Fit:
    """A loss of several variables, with or without random numbers."""

    def __init__(self, uses_seed=False, size=3):
        self.variables = [tf.Variable(tf.linspace(-1.0, 2.0, size), name="x"), tf.Variable(0.5, name="y")]
        self.optimizer = keras.optimizers.Adam(0.1, name="adam")
        self.uses_seed = uses_seed

    def loss(self, seed=None):
        x, y = self.variables
        noise = tf.random.stateless_normal([], seed) if self.uses_seed else 0.0
        return tf.reduce_sum((x - y) ** 2 + tf.cos(x)) + (y - 2.0 + 0.1 * noise) ** 2

    def state(self):
        return [v.numpy() for v in self.variables] + [v.numpy() for v in self.optimizer.variables]

    def step(self, seed):
        return VariableStep(self.loss, self.optimizer, self.variables, use_seed=seed is not None)


TRACES = {
    "loss": lambda q: q.loss,
    "derived": lambda q: {"half": q.loss / 2.0, "step": q.step, "x": q.parameters[0] + 1.0, "seed": q.seed},
    "all": lambda q: (q.loss, q.gradients, q.parameters, q.has_converged, q.convergence_criterion_state),
}


def in_one_piece(fit, seed, trace_fn, criterion, jit_compile):
    return fusemin.minimize(
        fit.loss,
        NUM_STEPS,
        fit.optimizer,
        trainable_variables=fit.variables,
        trace_fn=trace_fn,
        convergence_criterion=criterion,
        return_full_length_trace=False,
        jit_compile=jit_compile,
        seed=seed,
    )


def in_segments(fit, seed, trace_fn, criterion, jit_compile, split):
    if seed is not None:
        seed = seeds.sanitize_seed(seed)
    options = Options(criterion, tf.reduce_all, False)
    program = SegmentProgram(
        lambda: fit.step(seed), lambda step: trace_fn, options, seed is not None, CAPACITY, jit_compile
    )
    run = SegmentedRun(program, seed)
    traces = []
    for num_steps in split:
        if not run.converged:
            traces.append(run.take(num_steps))
    assert run.taken == sum(t[0].shape[0] for t in traces)
    return program.pack([tf.concat(parts, 0) for parts in zip(*traces, strict=True)])


@pytest.mark.parametrize("converges", [False, True])
@pytest.mark.parametrize("seed", [None, (3, 4)], ids=["no seed", "seed"])
@pytest.mark.parametrize("trace", TRACES)
@pytest.mark.parametrize("jit_compile", [False, True], ids=["default", "jit"])
def test_equal_to_the_bit(jit_compile, trace, seed, converges):
    def criterion():
        return LossNotDecreasing(atol=100.0, window_size=3, min_num_steps=23) if converges else None

    arguments = (seed, TRACES[trace], criterion(), jit_compile)
    whole = Fit(seed is not None)
    expected = in_one_piece(whole, *arguments)
    steps = tf.nest.flatten(expected)[0].shape[0]
    assert (steps < NUM_STEPS) == converges
    for split in SPLITS if not jit_compile else SPLITS[2:]:
        fit = Fit(seed is not None)
        trace_of_segments = in_segments(fit, *arguments, split)
        tf.nest.map_structure(np.testing.assert_array_equal, trace_of_segments, expected)
        for a, b in zip(fit.state(), whole.state(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_run_that_has_converged_takes_no_more_steps():
    fit = Fit()
    options = Options(LossNotDecreasing(atol=1e9, window_size=2, min_num_steps=3), tf.reduce_all, False)
    program = SegmentProgram(lambda: fit.step(None), lambda step: TRACES["loss"], options, False, CAPACITY)
    run = SegmentedRun(program)
    assert run.take(16)[0].shape == [4]
    assert run.converged
    with pytest.raises(ValueError, match="converged"):
        run.take(1)
