"""The table of options: names, what leaves each off, what each needs; and what is refused."""

import numpy as np
import pytest

from fusemin import _core
from tests.support.kernel_step import assert_same_bits, draw, run

# For each number its default, kind, tensors and sums.
OPTIONS = {
    "loss_scale_factor": (-1.0, "real", None, None),
    "dynamic_growth_steps": (-1.0, "count_of_steps", "loss_scale", "all_tensors"),
    "gradient_accumulation_steps": (-1.0, "count_of_steps", "accumulators", None),
    "clipvalue": (-1.0, "real", None, None),
    "clipnorm": (-1.0, "real", None, "each_tensor"),
    "global_clipnorm": (-1.0, "real", None, "all_tensors"),
    "weight_decay": (-1.0, "real", "decays", None),
    "ema_momentum": (-1.0, "real", "averages", None),
    "ema_starts_at_param": (0.0, "flag", None, None),
    "ema_overwrite_frequency": (-1.0, "count_of_steps", None, None),
}
COUNTS = [name for name, row in OPTIONS.items() if row[1] == "count_of_steps"]


def test_table():
    table = _core.options()
    assert {name: (o["default"], o["kind"], o["tensors"], o["sums"]) for name, o in table.items()} == OPTIONS
    assert list(table) == list(OPTIONS)
    assert all(option["doc"].endswith(".") for option in table.values())


def test_an_option_is_off_with_its_default():
    inputs = draw("adam", "float32", [70])
    defaults = {name: option["default"] for name, option in _core.options().items()}
    assert_same_bits(run(inputs, options=defaults), run(inputs))
    assert _core.step_bytes("adam", "float32", [70], defaults) == _core.step_bytes("adam", "float32", [70])


# What does something at the first step, and what must be there with it.
CHANGING = {
    "loss_scale_factor": 4.0,
    "dynamic_growth_steps": 10,
    "gradient_accumulation_steps": 2,
    "clipvalue": 1e-6,
    "clipnorm": 1e-6,
    "global_clipnorm": 1e-6,
    "weight_decay": 0.5,
    "ema_momentum": 0.5,
}


@pytest.mark.parametrize("name", CHANGING)
def test_every_option_reaches_the_kernel(name):
    """None is taken for the rule alone."""
    inputs = draw("sgd", "float64", [70])
    tensors = {"ema_momentum": "averages", "gradient_accumulation_steps": "accumulators"}
    state = {tensors[name]: [np.full(70, 0.5)]} if name in tensors else {}
    before = {key: arrays[0].copy() for key, arrays in state.items()}
    # Odd, so that the second call of two is yet to come.
    inputs.step = 1
    got = run(inputs, options={name: CHANGING[name]}, loss_scale=8.0, **state)
    changed = {key: (arrays[0] != before[key]).all() for key, arrays in state.items()}
    assert all(changed.values())
    assert changed or (got["params[0]"] != run(inputs)["params[0]"]).any()


@pytest.mark.parametrize("call", ["step", "step_bytes"])
def test_unknown_option(call):
    calls = {
        "step": lambda options: run(draw("sgd", "float32", [3]), options=options),
        "step_bytes": lambda options: _core.step_bytes("sgd", "float32", [3], options),
    }
    with pytest.raises(ValueError, match=r"no option 'clip_value'; there are .*clipvalue, clipnorm"):
        calls[call]({"clip_value": 1.0})


@pytest.mark.parametrize("count", [0.0, 0.5, -2.0, 2.0**31, np.nan])
@pytest.mark.parametrize("name", COUNTS)
def test_counts_of_steps(name, count):
    with pytest.raises(ValueError, match=f"the option {name} must be a count of steps"):
        _core.step_bytes("sgd", "float32", [3], {name: count})
