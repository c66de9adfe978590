"""Options of the op FusedStep inside XLA, in each form of the update, against the op in the default mode."""

import numpy as np
import pytest
import tensorflow as tf

from fusemin.update.fused_step import float64_bits
from tests.support.compiled_steps import FORMS, form_of_update
from tests.support.fused_step_call import FusedStepCall

SHAPES = [(300,), (3, 5), ()]
TENSORS = {
    "averages": "ema_momentum",
    "accumulators": "gradient_accumulation_steps",
    "decays": "weight_decay",
    "loss_scale": "dynamic_growth_steps",
}
OPTIONS = {
    "cautious": {},
    "clipvalue": {"clipvalue": 0.5},
    "clipnorm": {"clipnorm": 0.5},
    "global_clipnorm": {"global_clipnorm": 0.5},
    "weight_decay": {"weight_decay": 0.25},
    "average": {"ema_momentum": 0.75, "ema_starts_at_param": 1.0, "ema_overwrite_frequency": 2.0},
    # The count of calls is 7: of four the last is this one, of three it is not.
    "accumulation, applies": {"gradient_accumulation_steps": 4.0},
    "accumulation, adds": {"gradient_accumulation_steps": 3.0},
    "dynamic": {"dynamic_growth_steps": 2.0},
    "skips": {"skip_nonfinite": 1.0},
    "all": {
        "loss_scale_factor": 4.0,
        "gradient_accumulation_steps": 4.0,
        "clipvalue": 0.5,
        "weight_decay": 0.25,
        "ema_momentum": 0.75,
    },
}
# Sums in another order, and XLA's own square root and exponential.
RTOL = {tf.float64: 1e-12, tf.float32: 1e-5}


def states(rule, options, dtype, bad, jit_compile):
    """All that two steps leave."""
    rng = np.random.default_rng(0)
    call = FusedStepCall.make(rule, [rng.standard_normal(shape) for shape in SHAPES], dtype)

    def like_params():
        return [tf.Variable(rng.standard_normal(shape), dtype=dtype) for shape in SHAPES]

    for slot in call.slots:
        for variable in slot:
            variable.assign(rng.uniform(0.5, 2.0, variable.shape))
    extra = {name: like_params() for name in ("averages", "accumulators") if TENSORS[name] in options}
    if TENSORS["loss_scale"] in options:
        extra["loss_scale"] = [tf.Variable(8.0), tf.Variable(1)]
    gradients = [rng.standard_normal(shape) * 4.0 for shape in SHAPES]
    if bad:
        gradients[1][1, 2] = np.inf
    changes = {
        "gradients": [tf.constant(g, dtype) for g in gradients],
        "option_names": list(options),
        "option_values": float64_bits(options.values()),
        "decays": [True, False, True] if TENSORS["decays"] in options else [],
        **{name: [v.handle for v in variables] for name, variables in extra.items()},
    }

    @tf.function(jit_compile=jit_compile)
    def step():
        call(**changes)

    step()
    step()
    return [*call.state(), *[v.numpy() for variables in extra.values() for v in variables]]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rule", ["sgd_momentum", "adam", "lamb"])
def test_cautious_as_in_the_default_mode(rule, form, options):
    numbers = OPTIONS[options] | {"cautious": 1.0}
    for dtype, rtol in RTOL.items():
        for bad in (False, True) if options in ("dynamic", "skips") else (False,):
            want = states(rule, numbers, dtype, bad, None)
            with form_of_update(form):
                got = states(rule, numbers, dtype, bad, True)
            for a, b in zip(got, want, strict=True):
                np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)
