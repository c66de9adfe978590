"""TensorFlow Probability's own callers of `minimize`, with ours in place: all that they pass is taken."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras
from minimize_runs import assert_same
from tensorflow_probability.python.vi import optimization

import fusemin

RTOL = 1e-4  # Of losses of samples: XLA, and our loop, sum them in another order.
NUM_STEPS = 6
SEED = (1, 2)


@pytest.fixture
def in_place(monkeypatch):
    """Puts ours in the place of TFP's."""

    def put():
        # `tfp.vi` has names of its own.
        for module, name in ((optimization, "minimize"), (tfp.math, "minimize")):
            monkeypatch.setattr(module, name, getattr(fusemin, name))
            monkeypatch.setattr(module, f"{name}_stateless", getattr(fusemin, f"{name}_stateless"))

    return put


def normal(location=0.0):
    scale = tfp.util.TransformedVariable(1.0, tfp.bijectors.Softplus(), name="scale")
    return tfp.distributions.Normal(tf.Variable(location, name="location"), scale)


def target(z):
    return tfp.distributions.Normal(2.0, 0.5).log_prob(z)


def fit(surrogate=None, optimizer=None, **options):
    return tfp.vi.fit_surrogate_posterior(
        target,
        surrogate_posterior=surrogate or normal(),
        optimizer=optimizer or tf_keras.optimizers.Adam(0.1),
        seed=SEED,
        **{"num_steps": NUM_STEPS, **options},
    )


class PureDescent:
    def init(self, parameters):
        return tf.nest.map_structure(tf.zeros_like, parameters)

    def update(self, grads, state, parameters):
        state = tf.nest.map_structure(lambda s, g: 0.5 * s + g, state, grads)
        return tf.nest.map_structure(lambda s: -0.1 * s, state), state


def fit_stateless(**options):
    init, build = tfp.experimental.vi.build_factored_surrogate_posterior_stateless(event_shape=[2])
    return tfp.vi.fit_surrogate_posterior_stateless(
        lambda z: tf.reduce_sum(target(z), axis=-1),
        build_surrogate_posterior_fn=build,
        initial_parameters=init(SEED),
        optimizer=PureDescent(),
        num_steps=NUM_STEPS,
        seed=SEED,
        **options,
    )


def structural_time_series():
    tf.random.set_seed(1)
    series = np.float32([1.0, 2.0, 2.5, 3.0, 3.5, 5.0])
    model = tfp.sts.LocalLevel(observed_time_series=series)
    posterior = tfp.sts.build_factored_surrogate_posterior(model, seed=3)
    return tfp.vi.fit_surrogate_posterior(
        model.joint_distribution(series).log_prob,
        surrogate_posterior=posterior,
        optimizer=tf_keras.optimizers.Adam(0.1),
        num_steps=NUM_STEPS,
        seed=SEED,
    )


def with_criterion(criteria):
    return fit(
        num_steps=30,
        trace_fn=lambda q: (q.loss, q.has_converged, q.parameters),
        convergence_criterion=criteria.LossNotDecreasing(atol=0.5, window_size=3, min_num_steps=5),
    )


def in_a_function():
    """As tfcausalimpact does. An optimizer of tf_keras cannot make its slots there, in ours or in TFP's."""
    surrogate = normal()

    @tf.function(autograph=False)
    def run():
        return fit(surrogate, optimizer=tf.compat.v1.train.AdamOptimizer(0.1))

    return run()


CALLS = {
    "plain": fit,
    "samples": lambda: fit(sample_size=4),
    "compiled": lambda: fit(jit_compile=True),
    "not compiled": lambda: fit(jit_compile=False),
    "a trace": lambda: fit(trace_fn=lambda q: {"loss": q.loss, "gradients": q.gradients}),
    "trainable variables": lambda: (lambda s: fit(s, trainable_variables=s.trainable_variables))(normal()),
    "the surrogate for its variables": lambda: (lambda s: fit(s, trainable_variables=[s]))(normal()),
    "in a function": in_a_function,
    "nothing to train": lambda: fit(tfp.distributions.Normal(0.0, 1.0)),
    "a criterion": lambda: with_criterion(tfp.optimizer.convergence_criteria),
    "stateless": fit_stateless,
    "stateless, compiled": lambda: fit_stateless(jit_compile=True),
    "structural time series": structural_time_series,
    "tf.compat.v1": lambda: fit(optimizer=tf.compat.v1.train.AdamOptimizer(0.1)),
}


@pytest.mark.filterwarnings("ignore:`loss_fn` reads no trainable variable")
@pytest.mark.parametrize("call", CALLS)
def test_as_with_tfps_own(call, in_place):
    want = CALLS[call]()
    in_place()
    assert_same(CALLS[call](), want, RTOL)


def test_time_series_fit_by_hmc(in_place):
    def run():
        tf.random.set_seed(1)  # It draws where it starts from.
        series = np.float32([1.0, 2.0, 2.5, 3.0, 3.5, 5.0])
        model = tfp.sts.LocalLevel(observed_time_series=series)
        return tfp.sts.fit_with_hmc(
            model, series, num_results=3, num_warmup_steps=2, num_leapfrog_steps=2, num_variational_steps=5, seed=SEED
        )

    want = run()
    in_place()
    assert_same(run(), want, RTOL)
