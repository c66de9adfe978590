"""TFP's own functions, with fusemin in place of the `minimize` and `minimize_stateless` they call: the same results."""

import contextlib
import inspect
import pathlib
import re
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras
from tensorflow_probability.python.vi import optimization

import fusemin
from fusemin.api import tfp_replacement

tfb, tfd = tfp.bijectors, tfp.distributions

SEED = (3, 4)


class PureAdam:
    """The part of optax's interface that `minimize_stateless` uses."""

    def init(self, parameters):
        zeros = tf.nest.map_structure(tf.zeros_like, parameters)
        return {"m": zeros, "v": zeros, "t": tf.constant(0.0)}

    def update(self, grads, state, parameters):
        t = state["t"] + 1.0
        m = tf.nest.map_structure(lambda m, g: 0.9 * m + 0.1 * g, state["m"], grads)
        v = tf.nest.map_structure(lambda v, g: 0.999 * v + 0.001 * g**2, state["v"], grads)
        updates = tf.nest.map_structure(
            lambda m, v: -0.05 * (m / (1.0 - 0.9**t)) / (tf.sqrt(v / (1.0 - 0.999**t)) + 1e-7), m, v
        )
        return updates, {"m": m, "v": v, "t": t}


def normal_surrogate():
    scale = tfp.util.TransformedVariable(1.0, tfb.Softplus(), name="scale")
    return tfd.Normal(tf.Variable(0.0, name="loc"), scale)


def target(z):
    return tfd.Normal(2.0, 0.5).log_prob(z)


def fit(surrogate, log_prob=target, num_steps=5, optimizer=tf_keras.optimizers.Adam, **options):
    losses = tfp.vi.fit_surrogate_posterior(
        log_prob, surrogate, optimizer(0.1), num_steps, seed=options.pop("seed", SEED), **options
    )
    return losses, [tf.identity(v) for v in surrogate.trainable_variables]


def joint_model():
    return tfd.JointDistributionNamedAutoBatched(
        {
            "scale": tfd.HalfCauchy(0.0, 1.0),
            "weights": lambda scale: tfd.Sample(tfd.Normal(0.0, scale), 3),
            "y": lambda weights: tfd.Sample(tfd.Normal(tf.reduce_sum(weights, -1), 1.0), 10),
        }
    )


def joint(**options):
    pinned = joint_model().experimental_pin(y=tf.linspace(0.0, 2.0, 10))
    surrogate = tfp.experimental.vi.build_factored_surrogate_posterior(
        event_shape=pinned.event_shape, bijector=pinned.experimental_default_event_space_bijector(), seed=(1, 2)
    )
    return fit(surrogate, pinned.unnormalized_log_prob, sample_size=4, **options)


def series():
    model = tfp.sts.LocalLinearTrend(observed_time_series=np.linspace(0.0, 3.0, 12, dtype=np.float32) ** 2)
    return model, np.linspace(0.0, 3.0, 12, dtype=np.float32) ** 2


def structural_time_series(**options):
    model, observed = series()
    surrogate = tfp.sts.build_factored_surrogate_posterior(model=model, seed=(1, 2))
    return fit(surrogate, model.joint_distribution(observed_time_series=observed).log_prob, **options)


def stateless(**options):
    init, build = tfp.experimental.util.make_trainable_stateless(tfd.Normal, batch_and_event_shape=[2])
    initial = init(seed=(5, 6))
    parameters, losses = tfp.vi.fit_surrogate_posterior_stateless(
        target_log_prob_fn=lambda z: tf.reduce_sum(target(z), -1),
        build_surrogate_posterior_fn=lambda *p: tfd.Independent(build(*p), 1),
        initial_parameters=initial,
        optimizer=PureAdam(),
        num_steps=5,
        seed=SEED,
        **options,
    )
    return losses, tf.nest.flatten(parameters)


def trace_of_everything():
    return fit(
        normal_surrogate(),
        trace_fn=lambda q: {"loss": q.loss, "p": q.parameters, "g": q.gradients, "c": q.has_converged, "s": q.step},
        convergence_criterion=tfp.optimizer.convergence_criteria.LossNotDecreasing(
            rtol=0.9, window_size=3, min_num_steps=6
        ),
        num_steps=40,
    )


def in_a_function():
    surrogate = normal_surrogate()
    optimizer = tf_keras.optimizers.Adam(0.1)

    @tf.function
    def run():
        return tfp.vi.fit_surrogate_posterior(target, surrogate, optimizer, 5, seed=SEED)

    return run(), [tf.identity(v) for v in surrogate.trainable_variables]


def hmc_of_a_series():
    model, observed = series()
    # It draws where the fit begins without the seed.
    tf.random.set_seed(7)
    samples, _ = tfp.sts.fit_with_hmc(
        model, observed, num_results=3, num_warmup_steps=2, num_leapfrog_steps=2, num_variational_steps=5, seed=SEED
    )
    return samples, []


CALLERS = {
    "normal": lambda: fit(normal_surrogate()),
    "normal, compiled": lambda: fit(normal_surrogate(), jit_compile=True),
    "normal, not compiled": lambda: fit(normal_surrogate(), jit_compile=False),
    "keras": lambda: fit(normal_surrogate(), optimizer=keras.optimizers.Adam),
    "legacy": lambda: fit(normal_surrogate(), optimizer=tf_keras.optimizers.legacy.Adam),
    "compat.v1": lambda: fit(normal_surrogate(), optimizer=tf.compat.v1.train.AdamOptimizer),
    "importance samples": lambda: fit(normal_surrogate(), sample_size=2, importance_sample_size=3),
    "forward divergence": lambda: fit(
        normal_surrogate(), discrepancy_fn=tfp.vi.kl_forward, sample_size=5, importance_sample_size=2
    ),
    "everything traced": trace_of_everything,
    "in a tf.function": in_a_function,
    "joint": joint,
    "joint, compiled": lambda: joint(jit_compile=True),
    "structural time series": structural_time_series,
    "structural time series, compiled": lambda: structural_time_series(jit_compile=True),
    "HMC of a series": hmc_of_a_series,
    "stateless": stateless,
    "stateless, score function": lambda: stateless(
        sample_size=5, gradient_estimator=tfp.vi.GradientEstimators.SCORE_FUNCTION
    ),
    "stateless, compiled": lambda: stateless(jit_compile=True),
}


@pytest.mark.parametrize("caller", CALLERS)
def test_same_results(caller, monkeypatch):
    stock = CALLERS[caller]()
    called = []
    for name, ours in tfp_replacement._OURS.items():
        monkeypatch.setitem(tfp_replacement._OURS, name, lambda *a, f=ours, **k: called.append(f) or f(*a, **k))
    with fusemin.replacing_tfp():
        ours = CALLERS[caller]()
    assert called
    tf.nest.map_structure(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), ours, stock)


STOCK = [(module, name, getattr(module, name)) for module in (optimization, tfp.math) for name in tfp_replacement._OURS]


OURS = object()


def are_stock():
    return [getattr(module, name) is theirs for module, name, theirs in STOCK]


def test_contexts_are_nested_and_restored():
    with fusemin.replacing_tfp():
        with pytest.raises(KeyError), fusemin.replacing_tfp():
            raise KeyError
        assert not any(are_stock())
        with fusemin.replacing_tfp():
            pass
        assert not any(are_stock())
    assert all(are_stock())


def test_other_threads_keep_what_they_have(monkeypatch):
    """Two threads, each with a context of its own, and one without, at the same time."""
    monkeypatch.setitem(tfp_replacement._OURS, "minimize", lambda *args, **kwargs: OURS)
    barrier = threading.Barrier(3)
    seen = {}

    def run(name, context):
        with context:
            barrier.wait()
            x = tf.Variable(0.0)
            optimizer = tf_keras.optimizers.legacy.SGD(0.1)
            seen[name] = tfp.math.minimize(lambda: x**2, 3, optimizer, trainable_variables=[x]) is OURS
            barrier.wait()

    contexts = {"one": fusemin.replacing_tfp(), "two": fusemin.replacing_tfp(), "none": contextlib.nullcontext()}
    threads = [threading.Thread(target=run, args=item) for item in contexts.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {"one": True, "two": True, "none": False}
    assert all(are_stock())


def test_another_version_is_refused(monkeypatch):
    monkeypatch.setattr(tfp, "__version__", "0.26.0")
    message = r"inside of TensorFlow Probability 0\.25, 0\.26\.0 is installed"
    with pytest.raises(ImportError, match=message), fusemin.replacing_tfp():
        pass
    assert all(are_stock())


def test_functions_of_tfp_by_fusemin():
    """Same signature, same results, and TFP's own are left alone."""
    for ours, theirs in (
        (fusemin.vi.fit_surrogate_posterior, tfp.vi.fit_surrogate_posterior),
        (fusemin.vi.fit_surrogate_posterior_stateless, tfp.vi.fit_surrogate_posterior_stateless),
        (fusemin.sts.fit_with_hmc, tfp.sts.fit_with_hmc),
    ):
        assert inspect.signature(ours) == inspect.signature(theirs)
        assert ours.__doc__ == theirs.__doc__
    losses = [
        function(target, normal_surrogate(), tf_keras.optimizers.Adam(0.1), 5, seed=SEED)
        for function in (fusemin.vi.fit_surrogate_posterior, tfp.vi.fit_surrogate_posterior)
    ]
    np.testing.assert_allclose(*losses, rtol=2e-5)
    assert all(are_stock())


def test_import_of_fusemin_does_not_import_tfp():
    """Nor need it: it takes seconds."""
    program = "import sys, fusemin; assert 'tensorflow_probability' not in sys.modules; fusemin.vi"
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_all_of_tfps_callers_go_through_one_module():
    """Where the installed TFP imports `minimize`: a module beside these would be missed."""
    root = pathlib.Path(tfp.__file__).parent / "python"
    importing = re.compile(r"^from tensorflow_probability\.python\.math(\.minimize)? import minimize", re.MULTILINE)
    found = [p.relative_to(root) for p in root.rglob("*.py") if not p.stem.endswith("_test")]
    found = {str(path) for path in found if importing.search((root / path).read_text(encoding="utf-8"))}
    assert found == {"math/__init__.py", "vi/optimization.py"}
