"""Ten public programs, as their users write them: one changed line, and the same results.

Each pattern is the program's call, with its arguments and its kind of model, on data of its kind that are small. It is
given the one line that changes: what stands there for stock, or what stands there for fusemin. The steps of programs
that take thousands are fewer here. The rest of tfcausalimpact, `tfp.sts.fit_with_hmc`, is in test_tfp_callers.py.
"""

import logging
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

import fusemin

tfb, tfd, sts = tfp.bijectors, tfp.distributions, tfp.sts

# What may stand in the line: stock's and ours.
MINIMIZE = tfp.math.minimize, fusemin.minimize
FIT = tfp.vi.fit_surrogate_posterior, fusemin.vi.fit_surrogate_posterior
SEED = (7, 8)
FUSE = (lambda optimizer: optimizer), fusemin.fuse


def values(variables):
    return [v.numpy() for v in variables]


def components():
    """Of probabilistic PCA: the data, and the log-probability of weights and scores."""
    rng = np.random.default_rng(0)
    data = (rng.normal(size=[2, 1]) @ rng.normal(size=[1, 40]) + 0.1 * rng.normal(size=[2, 40])).astype(np.float32)

    def model():
        w = yield tfd.Normal(tf.zeros([2, 1]), 2.0, name="w")
        z = yield tfd.Normal(tf.zeros([1, 40]), 1.0, name="z")
        yield tfd.Normal(w @ z, 0.5, name="x")

    joint = tfd.JointDistributionCoroutineAutoBatched(model)
    return lambda w, z: joint.log_prob((w, z, data))


def pca_map(minimize):
    log_prob = components()
    w = tf.Variable(tf.random.stateless_normal([2, 1], (1, 2)))
    z = tf.Variable(tf.random.stateless_normal([1, 40], (3, 4)))
    losses = minimize(lambda: -log_prob(w, z), optimizer=tf.optimizers.Adam(learning_rate=0.05), num_steps=200)
    return losses, values([w, z])


def pca_vi(fit_surrogate_posterior):
    w_mean = tf.Variable(tf.random.stateless_normal([2, 1], (1, 2)))
    z_mean = tf.Variable(tf.random.stateless_normal([1, 40], (3, 4)))
    w_stddev = tfp.util.TransformedVariable(1e-4 * tf.ones([2, 1]), bijector=tfb.Softplus())
    z_stddev = tfp.util.TransformedVariable(1e-4 * tf.ones([1, 40]), bijector=tfb.Softplus())

    def factors():
        yield tfd.Normal(loc=w_mean, scale=w_stddev, name="w")
        yield tfd.Normal(loc=z_mean, scale=z_stddev, name="z")

    surrogate = tfd.JointDistributionCoroutineAutoBatched(factors)
    losses = fit_surrogate_posterior(
        components(),
        surrogate_posterior=surrogate,
        optimizer=tf.optimizers.Adam(learning_rate=0.05),
        num_steps=200,
        seed=SEED,
    )
    return losses, values(surrogate.trainable_variables)


def changepoints(minimize):
    """Rates of a hidden Markov model of counts, for several numbers of states at once: a batch of losses."""
    counts = np.concatenate([np.full(15, 40), np.full(10, 3), np.full(20, 20), np.full(15, 50)]).astype(np.float32)
    most, change = 4, 0.05
    used = np.arange(most) < np.arange(1, most + 1)[:, None]
    start = np.where(used, 0.0, -1e3).astype(np.float32)
    step = np.stack([np.eye(most)] * most)
    for n in range(2, most + 1):
        step[n - 1, :n, :n] = np.where(np.eye(n), 1.0 - change, change / (n - 1))
    log_rates = tf.Variable(np.log(counts.mean()) + 0.1 * tf.random.stateless_normal([most, most], (1, 2)))
    model = tfd.HiddenMarkovModel(
        initial_distribution=tfd.Categorical(logits=start),
        transition_distribution=tfd.Categorical(probs=step.astype(np.float32)),
        observation_distribution=tfd.Poisson(log_rate=log_rates),
        num_steps=len(counts),
    )
    prior = tfd.LogNormal(5.0, 5.0)

    def log_prob():
        return tf.reduce_sum(prior.log_prob(tf.exp(log_rates)), -1) + model.log_prob(counts)

    losses = minimize(lambda: -log_prob(), optimizer=tf.optimizers.Adam(learning_rate=0.1), num_steps=100)
    return losses, values([log_rates])


def mixed_effects(fit_surrogate_posterior):
    county = np.arange(30) % 5
    floor = (np.arange(30) % 3 == 0).astype(np.float32)
    radon = (1.5 - 0.7 * floor + 0.1 * county).astype(np.float32)

    @tfd.JointDistributionCoroutineAutoBatched
    def model():
        scale = yield tfd.HalfCauchy(0.0, 1.0, name="county_scale")
        noise = yield tfd.HalfCauchy(0.0, 1.0, name="noise")
        weight = yield tfd.Normal(0.0, 1.0, name="floor_weight")
        effect = yield tfd.Sample(tfd.Normal(0.0, scale), 5, name="county_effect")
        yield tfd.Normal(weight * floor + tf.gather(effect, county, axis=-1), noise, name="log_radon")

    pinned = model.experimental_pin(log_radon=radon)
    surrogate = tfp.experimental.vi.build_factored_surrogate_posterior(
        event_shape=pinned.event_shape, bijector=pinned.experimental_default_event_space_bijector(), seed=(1, 2)
    )
    losses = fit_surrogate_posterior(
        pinned.unnormalized_log_prob,
        surrogate,
        optimizer=tf_keras.optimizers.Adam(learning_rate=1e-2),
        num_steps=40,
        seed=42,
        sample_size=2,
    )
    return losses, values(surrogate.trainable_variables)


def joint_distribution(fit_surrogate_posterior):
    """An ASVI surrogate, compiled."""

    @tfd.JointDistributionCoroutineAutoBatched
    def prior():
        scale = yield tfd.LogNormal(0.0, 1.0, name="scale")
        yield tfd.Normal(0.0, scale, name="loc")

    observed = tf.linspace(0.0, 2.0, 10)

    def log_prob(scale, loc):
        of_data = tfd.Normal(loc[..., tf.newaxis], 1.0).log_prob(observed)
        return prior.log_prob(scale, loc) + tf.reduce_sum(of_data, -1)

    surrogate = tfp.experimental.vi.build_asvi_surrogate_posterior(prior, seed=(1, 2))
    losses = fit_surrogate_posterior(
        log_prob,
        surrogate,
        optimizer=tf_keras.optimizers.Adam(1e-2),
        num_steps=1_000,
        seed=SEED,
        sample_size=16,
        jit_compile=True,
    )
    return losses, values(surrogate.trainable_variables)


def series(length=16):
    month = np.arange(length, dtype=np.float32)
    noise = np.random.default_rng(0).normal(size=length)
    return (0.1 * month + np.cos(np.pi * month) + 0.3 * noise).astype(np.float32)


def structural_model(observed):
    trend = sts.LocalLevel(observed_time_series=observed)
    seasonal = sts.Seasonal(num_seasons=2, observed_time_series=observed)
    return sts.Sum([trend, seasonal], observed_time_series=observed)


def structural_time_series(fit_surrogate_posterior):
    observed = series()
    model = structural_model(observed)
    surrogate = sts.build_factored_surrogate_posterior(model=model, seed=(1, 2))
    losses = fit_surrogate_posterior(
        target_log_prob_fn=model.joint_distribution(observed_time_series=observed).log_prob,
        surrogate_posterior=surrogate,
        optimizer=tf_keras.optimizers.Adam(learning_rate=0.1),
        num_steps=100,
        seed=SEED,
        jit_compile=True,
    )
    return losses, values(surrogate.trainable_variables)


def counts_over_time(fit_surrogate_posterior):
    """Structural time series of Poisson rates."""
    counts = np.round(np.exp(0.5 + 0.1 * series(8)))
    of_rates = sts.LocalLevel(observed_time_series=np.log1p(counts).astype(np.float32))

    @tfd.JointDistributionCoroutineAutoBatched
    def model():
        parameters = []
        for parameter in of_rates.parameters:
            parameters.append((yield parameter.prior))
        log_rates = yield of_rates.make_state_space_model(len(counts), parameters)
        yield tfd.Poisson(log_rate=log_rates[..., 0], name="observed_counts")

    pinned = model.experimental_pin(observed_counts=counts.astype(np.float32))
    surrogate = tfp.experimental.vi.build_factored_surrogate_posterior(
        event_shape=pinned.event_shape, bijector=pinned.experimental_default_event_space_bijector(), seed=(1, 2)
    )
    losses = fit_surrogate_posterior(
        pinned.unnormalized_log_prob,
        surrogate_posterior=surrogate,
        optimizer=tf_keras.optimizers.Adam(0.1),
        num_steps=40,
        seed=SEED,
    )
    return losses, values(surrogate.trainable_variables)


def causal_impact(fit_surrogate_posterior):
    """A fit inside of a function that samples from what was fitted."""
    observed = series(10)
    model = sts.Sum([sts.LocalLevel(observed_time_series=observed)], observed_time_series=observed)
    optimizer = tf.optimizers.Adam(learning_rate=0.1)
    surrogate = sts.build_factored_surrogate_posterior(model=model, seed=(1, 2))

    @tf.function
    def run():
        losses = fit_surrogate_posterior(
            target_log_prob_fn=model.joint_distribution(observed_time_series=observed).log_prob,
            surrogate_posterior=surrogate,
            optimizer=optimizer,
            num_steps=40,
            seed=SEED,
        )
        with tf.control_dependencies([losses]):
            return losses, surrogate.sample(5, seed=(5, 6))

    losses, samples = run()
    return losses, [*samples.values(), *values(surrogate.trainable_variables)]


class SkipsNaN:
    """An optimizer around another that leaves out steps with a gradient that is not finite."""

    def __init__(self, inner):
        self._inner = inner

    def apply_gradients(self, grads_and_vars):
        pairs = list(grads_and_vars)
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g, _ in pairs])
        return tf.cond(
            finite,
            lambda: tf.identity(self._inner.apply_gradients(pairs)),
            lambda: tf.identity(self._inner.iterations),
        )


def tree(minimize):
    """An optimizer of its own, a criterion, a trace that ends there, and a progress bar that steps with it."""
    times = tf.Variable([0.5, 1.5, 0.2])
    inner = tf_keras.optimizers.Adam(0.1)
    inner.build([times])
    calls, bar = tf.Variable(0.0, trainable=False), []

    def log_prob():
        # Its gradient is not a number in the first three steps.
        no_log = tf.math.log(tf.maximum(calls.assign_add(1.0) - 3.0, 0.0) * times[0])
        return tf.where(True, 0.0, no_log) - tf.reduce_sum((times - [1.0, 2.0, 0.6]) ** 2)

    def trace_fn(quantities):
        tf.py_function(lambda step: bar.append(int(step)), [quantities.step], [])
        return {"loss": quantities.loss, "parameters": quantities.parameters}

    trace = minimize(
        lambda: -log_prob(),
        num_steps=300,
        optimizer=SkipsNaN(inner),
        convergence_criterion=tfp.optimizer.convergence_criteria.LossNotDecreasing(atol=1e-4, window_size=5),
        trainable_variables=[times],
        trace_fn=trace_fn,
        return_full_length_trace=False,
    )
    assert 5 < len(trace["loss"]) < 300
    start = [0.5, 1.5, 0.2]
    assert [np.allclose(row, start) for row in trace["parameters"][0][:5]] == [True, True, True, False, False]
    # TFP calls `trace_fn` on, after convergence, and for the first step twice.
    assert set(bar) >= set(range(len(trace["loss"])))
    return trace, values([times])


def probabilistic_program(fit_surrogate_posterior):
    """Inside of a function, with the user's keywords handed on."""
    scale = tfp.util.TransformedVariable(tf.ones(3), tfb.Softplus())
    surrogate = tfd.Independent(tfd.Normal(tf.Variable(tf.zeros(3)), scale), 1)
    target = tfd.MultivariateNormalTriL([1.0, 2.0, 3.0], 0.5 * np.tril(np.ones([3, 3], np.float32)))
    optimizer = tf_keras.optimizers.Adam(0.05)
    optimizer.build(surrogate.trainable_variables)

    def fit(random_seed, sample_size, **kwargs):
        @tf.function(autograph=False)
        def run():
            return fit_surrogate_posterior(
                target_log_prob_fn=target.log_prob,
                surrogate_posterior=surrogate,
                num_steps=100,
                optimizer=optimizer,
                seed=random_seed,
                sample_size=sample_size,
                **kwargs,
            )

        return run()

    return fit((1, 2), 4, trace_fn=lambda quantities: quantities.loss), values(surrogate.trainable_variables)


def lens():
    """The log-probability of points, a batch of them."""
    return tfd.MultivariateNormalTriL([1.0, -1.0, 0.5], 0.5 * np.tril(np.ones([3, 3], np.float32))).log_prob


def lens_vi(fit_surrogate_posterior):
    surrogate = tfd.MultivariateNormalTriL(
        loc=tf.Variable(tf.zeros(3)),
        scale_tril=tfp.util.TransformedVariable(
            1e-3 * tf.eye(3), tfb.FillScaleTriL(diag_bijector=tfb.Exp(), diag_shift=1e-6)
        ),
    )
    losses = fit_surrogate_posterior(
        lens(),
        surrogate_posterior=surrogate,
        sample_size=250,
        optimizer=tf_keras.optimizers.Adam(1e-2),
        num_steps=100,
        seed=SEED,
    )
    return losses, values(surrogate.trainable_variables)


def lens_map(around):
    """A loop of the user's own over a function with a tape."""
    log_prob, points = lens(), tf.Variable(tf.random.stateless_normal([20, 3], (1, 2)))
    optimizer = around(keras.optimizers.Adam(1e-2))

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(-log_prob(points))
        optimizer.apply_gradients(zip(tape.gradient(loss, [points]), [points], strict=True))
        return loss

    return [step() for _ in range(350)], values([points])


class Pattern(NamedTuple):
    """A program's use.

    Attributes:
      program: function of the line that changes, which returns losses and the state after the fit.
      line: what stands there: stock's, and ours.
      limit: largest relative difference allowed. float32, and steps add rounding up.
      fused: whether the op does the update.
    """

    program: Any
    line: tuple
    limit: float = 1e-4
    fused: bool = True


PATTERNS = {
    "1 TFP tutorial, probabilistic PCA, MAP": Pattern(pca_map, MINIMIZE),
    "1 TFP tutorial, probabilistic PCA, VI": Pattern(pca_vi, FIT),
    "2 TFP tutorial, multiple changepoints": Pattern(changepoints, MINIMIZE),
    "3 TFP tutorial, linear mixed effects by VI": Pattern(mixed_effects, FIT),
    "4 TFP tutorial, VI and joint distributions": Pattern(joint_distribution, FIT),
    "5 TFP tutorial, structural time series": Pattern(structural_time_series, FIT),
    "6 TFP tutorial, non-Gaussian structural time series": Pattern(counts_over_time, FIT),
    "7 tfcausalimpact": Pattern(causal_impact, FIT),
    "8 treeflow": Pattern(tree, MINIMIZE, fused=False),
    "9 pymc4": Pattern(probabilistic_program, FIT),
    "10 gigalens, VI": Pattern(lens_vi, FIT),
    "10 gigalens, MAP": Pattern(lens_map, FUSE),
}


@pytest.mark.parametrize("name", PATTERNS)
def test_one_changed_line_gives_the_same_results(name, caplog, record_difference):
    pattern, results = PATTERNS[name], []
    with caplog.at_level(logging.DEBUG, "fusemin"):
        for line in pattern.line:
            # Programs without a seed draw where the generator of TensorFlow is.
            tf.random.set_seed(1)
            results.append([np.asarray(t) for t in tf.nest.flatten(pattern.program(line))])
    stock, ours = results
    difference = 0.0
    for a, b in zip(ours, stock, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert np.isfinite(b).all()
        difference = max(difference, float(np.max(np.abs(a - b) / (np.abs(b) + 1.0))))
    record_difference("public patterns", difference, pattern.limit, name)
    assert difference <= pattern.limit
    assert ("in one op" in caplog.text) == pattern.fused
    assert ("apply_gradients" in caplog.text) != pattern.fused
