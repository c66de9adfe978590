"""The options of a step in NumPy, with `rules_in_numpy`: what csrc/options does, written anew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.support.kernel_step import run_reference as run_rule
from tests.support.kernel_step import value_type


def draw_state(inputs, options):
    """The averages and accumulators that options need, by the arguments of `_core.step`."""
    rng = np.random.default_rng(1)
    needed = {"averages": "ema_momentum", "accumulators": "gradient_accumulation_steps"}
    return {
        name: [rng.standard_normal(x.size).astype(inputs.dtype) for x in inputs.params]
        for name, option in needed.items()
        if option in options
    }


def copies(state):
    """The same, in arrays of their own."""
    return {name: [x.copy() for x in arrays] for name, arrays in state.items()}


def run_reference(inputs, options, decays, loss_scale, averages=None, accumulators=None):
    """What a step leaves, by the names of `kernel_step.run` and "averages[0]", "accumulators[0]" and so on.

    Sources: `keras.optimizers.Optimizer` for all but "cautious", which is Algorithm 1 of arXiv:2411.16085.
    """
    dtype, value = inputs.dtype, value_type(inputs.dtype)

    def get(name):
        return options.get(name, 0.0)

    def stored(x):
        return x.astype(dtype).astype(value)

    scale = 1 / loss_scale if get("dynamic_growth_steps") else 1 / options.get("loss_scale_factor", 1.0)
    every = get("gradient_accumulation_steps")
    calls, applies = inputs.step - 1, True
    gradients = [x.astype(value) for x in inputs.gradients]
    if every:
        gradients = [stored(a.astype(value) + g * value(scale)) for a, g in zip(accumulators, gradients, strict=True)]
        applies, calls, scale = inputs.step % every == 0, calls // every, 1 / every
    updates = int(calls)

    squares = [float(np.sum(np.square(g.astype(np.float64)))) for g in gradients]
    factors = [1.0] * len(gradients)
    if get("clipnorm"):
        factors = [get("clipnorm") / max(np.sqrt(s) * scale, get("clipnorm")) for s in squares]
    elif get("global_clipnorm"):
        norm = np.sqrt(sum(squares)) * scale
        factors = [get("global_clipnorm") * min(1 / norm, 1 / get("global_clipnorm"))] * len(gradients)
    seen = [g * value(scale * factor) for g, factor in zip(gradients, factors, strict=True)]
    if get("clipvalue"):
        seen = [np.clip(g, value(-get("clipvalue")), value(get("clipvalue"))) for g in seen]
    seen = [g.astype(dtype) for g in seen]

    params = list(inputs.params)
    if get("weight_decay"):
        rate, decay = value(inputs.hyperparameters["learning_rate"]), value(get("weight_decay"))
        params = [
            (p.astype(value) - p.astype(value) * decay * rate).astype(dtype) if decays[i] else p
            for i, p in enumerate(params)
        ]
    after = run_rule(replace(inputs, params=params, gradients=seen, step=updates + 1))
    if get("cautious"):
        for i, (old, gradient) in enumerate(zip(params, seen, strict=True)):
            old, gradient = old.astype(value), gradient.astype(value)
            move = old - after[f"params[{i}]"].astype(value)
            agrees = move * gradient > 0
            factor = value(old.size / (np.count_nonzero(agrees) + 1))
            after[f"params[{i}]"] = (old - move * np.where(agrees, factor, value(0))).astype(dtype)
    if not applies:
        names = [name for name in after if name not in ("scalars", *[f"params[{i}]" for i in range(len(params))])]
        before = [x for slot in inputs.slots for x in slot]
        after = {f"params[{i}]": x for i, x in enumerate(inputs.params)}
        after |= dict(zip(names, before, strict=True))
        after["scalars"] = np.array(list(inputs.scalars.values()), np.float64)
    if every:
        after |= {
            f"accumulators[{i}]": np.zeros_like(p) if applies else gradients[i].astype(dtype)
            for i, p in enumerate(params)
        }
    if "ema_momentum" in options:
        starts_at_param = bool(get("ema_starts_at_param"))
        keep = 0.0 if starts_at_param and updates == 0 else options["ema_momentum"]
        take = value(1 - (float(value(keep)) if starts_at_param else keep))
        overwrites = get("ema_overwrite_frequency") and (updates + 1) % get("ema_overwrite_frequency") == 0
        for i, average in enumerate(averages):
            mean = (value(keep) * average.astype(value) + take * after[f"params[{i}]"].astype(value)).astype(dtype)
            after[f"averages[{i}]"] = mean
            if overwrites:
                after[f"params[{i}]"] = mean
    return after
