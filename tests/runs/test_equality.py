"""A run that is watched is the run that is not, to the bit."""

import numpy as np
import pytest
import tensorflow as tf

import fusemin
from fusemin import families
from tests.runs.fits import Fit, assert_same
from tests.support.optimizer_table import ROWS

NUM_STEPS = 40
JIT = pytest.mark.parametrize("jit_compile", [False, True], ids=["default", "jit"])
WATCHED = {"callbacks": [lambda state: None], "every": 7}


def one_of_each_rule():
    rows = {}
    for row in ROWS:
        rows.setdefault(families.rule_name(row.make(learning_rate=0.01)), row)
    return rows


RULES = one_of_each_rule()


@pytest.mark.parametrize("rule", RULES)
def test_each_rule(rule):
    whole, watched = (Fit(RULES[rule].make(learning_rate=0.01)) for _ in range(2))
    for fit in (whole, watched):
        if RULES[rule].num_variables == 1:
            fit.variables.pop()
            fit.loss = lambda x=fit.variables[0]: tf.reduce_sum((x - 1.0) ** 2)
    expected = whole.minimizer()(NUM_STEPS)
    result = watched.minimizer().run(NUM_STEPS, **WATCHED)
    assert_same(result.trace, expected)
    assert_same([v.numpy() for v in watched.variables], [v.numpy() for v in whole.variables])


TRACES = {
    "loss": lambda q: q.loss,
    "the older form": lambda loss, gradients, variables: (loss, variables[0]),
    "not the loss": lambda q: q.parameters[0],
    "derived": lambda q: {"half": q.loss / 2.0, "step": q.step, "x": q.parameters[0] + 1.0, "seed": q.seed},
    "all": lambda q: (q.loss, q.gradients, q.parameters, q.has_converged, q.convergence_criterion_state),
    "nothing": lambda q: (),
    "slices": lambda q: tf.boolean_mask(q.parameters[0], [True, False, True]),
}
RUNS = {
    "seed": {"seed": (3, 4)},
    "converges": {"converges": True},
    "converges, full length": {"converges": True, "full": True},
}


@JIT
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("trace", TRACES)
def test_each_trace(trace, run, jit_compile):
    seed, converges, full = (RUNS[run].get(key) for key in ("seed", "converges", "full"))
    results = []
    for watched in (False, True):
        criterion = fusemin.LossNotDecreasing(atol=100.0, window_size=3, min_num_steps=23) if converges else None
        fit = Fit(uses_seed=seed is not None)
        minimizer = fit.minimizer(
            trace_fn=TRACES[trace],
            convergence_criterion=criterion,
            return_full_length_trace=bool(full),
            jit_compile=jit_compile,
        )
        if watched:
            result = minimizer.run(NUM_STEPS, seed, **WATCHED)
            assert result.status is (fusemin.Status.CONVERGED if converges else fusemin.Status.FINISHED)
            assert result.steps == (24 if converges else NUM_STEPS)
        results.append((result.trace if watched else minimizer(NUM_STEPS, seed), fit.state()))
    assert_same(*results)


@JIT
def test_further_runs_continue_and_trace_nothing_anew(jit_compile):
    fit, whole, calls = Fit(), Fit(), []
    loss = fit.loss
    fit.loss = lambda: calls.append(None) or loss()
    minimizer = fit.minimizer(jit_compile=jit_compile)
    parts = [minimizer.run(n).trace for n in (20, 31, 32)]
    assert len(calls) <= 2
    assert_same(tf.concat(parts, 0), whole.minimizer(jit_compile=jit_compile)(83))


def test_minimize_returns_the_trace():
    fit, whole = Fit(), Fit()
    trace = fusemin.minimize(fit.loss, NUM_STEPS, fit.optimizer, trainable_variables=fit.variables, time_limit=60.0)
    assert_same(trace, whole.minimizer()(NUM_STEPS))
    assert isinstance(trace, tf.Tensor)


def test_no_steps():
    result = Fit().minimizer(trace_fn=lambda q: (q.loss, q.parameters)).run(0)
    assert result.steps == 0
    assert result.status is fusemin.Status.FINISHED
    assert [leaf.shape for leaf in tf.nest.flatten(result.trace)] == [(0,), (0, 3), (0,)]


def test_an_optimizer_that_is_not_fused():
    class Own:
        def __init__(self):
            self.rate = tf.Variable(0.01)
            self.variables = [self.rate]

        def apply_gradients(self, pairs):
            for gradient, variable in pairs:
                variable.assign_sub(self.rate * gradient)
            self.rate.assign(self.rate * 0.99)

    whole, watched = Fit(Own()), Fit(Own())
    assert_same(watched.minimizer().run(NUM_STEPS, **WATCHED).trace, whole.minimizer()(NUM_STEPS))
    assert_same(watched.state(), whole.state())


def test_losses_of_a_batch():
    x = tf.Variable([1.0, 2.0])
    result = fusemin.Minimizer(lambda: x**2, Fit().optimizer, trainable_variables=[x]).run(5, progress="always")
    assert result.trace.shape == [5, 2]
    assert np.isfinite(result.trace).all()
