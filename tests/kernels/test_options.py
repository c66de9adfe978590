"""The table of options: names, what leaves each off, what each needs, does for every rule, and refuses."""

import pathlib
import re

import numpy as np
import pytest

from fusemin import _core
from tests.support.kernel_step import DTYPES, ROW_CHUNK, assert_same_bits, difference_of, draw, run, ulps_of_largest
from tests.support.options_in_numpy import copies, draw_state, run_reference
from tests.support.rules_in_numpy import RULES

# For each number its default, kind, tensors and sums.
OPTIONS = {
    "skip_nonfinite": (0.0, "flag", None, "all_tensors"),
    "loss_scale_factor": (-1.0, "real", None, None),
    "dynamic_growth_steps": (-1.0, "count_of_steps", "loss_scale", "all_tensors"),
    "gradient_accumulation_steps": (-1.0, "count_of_steps", "accumulators", None),
    "clipvalue": (-1.0, "real", None, None),
    "clipnorm": (-1.0, "real", None, "each_tensor"),
    "global_clipnorm": (-1.0, "real", None, "all_tensors"),
    "weight_decay": (-1.0, "real", "decays", None),
    "cautious": (0.0, "flag", None, "each_move"),
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


CSRC = pathlib.Path(__file__).parents[2] / "csrc"


def test_no_option_is_named_outside_of_its_folder():
    """So that a new one is a header and a line in the list."""
    structs = re.findall(r"^struct (\w+) \{\n  double ", "".join(map(_text, CSRC.glob("options/*.h"))), re.MULTILINE)
    assert len(structs) >= 7
    names = re.compile(rf"\b({'|'.join([*OPTIONS, *structs])})\b")
    # A rule may have a hyperparameter of the name of an option.
    sources = [path for path in CSRC.rglob("*") if path.is_file() and path.parent.name not in ("options", "rules")]
    assert len(sources) > 50
    found = {f"{path.relative_to(CSRC)}: {name}" for path in sources for name in names.findall(_text(path))}
    assert found == set()


def test_an_option_is_its_header_and_a_line():
    """What stands of each outside of its header: the include, and its place in the list."""
    text = {path.name: _text(path) for path in CSRC.glob("options/*.h")}
    assert "cautious" in text["cautious.h"]
    found = {name: re.findall(r"^.*cautious.*$", of, re.MULTILINE | re.IGNORECASE) for name, of in text.items()}
    lines = {name: [line.strip(" /") for line in of] for name, of in found.items() if of and name != "cautious.h"}
    assert lines == {"user_options.h": ['#include "options/cautious.h"', "Cautious,"]}


def _text(path):
    return path.read_text(encoding="utf-8")


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
    "cautious": 1.0,
    "ema_momentum": 0.5,
}
DENSE_ONLY = ["cautious"]


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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", RULES)
def test_a_step_that_is_not_finite_is_skipped(rule, dtype):
    """Beside all other options, and with a gradient that is, nothing is another."""
    alone, skips = {}, {"skip_nonfinite": 1.0}
    others = _ACCUMULATION | _AVERAGE | {"global_clipnorm": 2.0, "clipvalue": 0.5, "weight_decay": 0.25}
    for options in (alone, others):
        inputs = draw(rule, dtype, SIZES)
        inputs.step = 2
        arguments = {"decays": [True, True, False, True]} if options else {}
        assert_same_bits(
            run(inputs, options=options | skips, **arguments, **copies(draw_state(inputs, options))),
            run(inputs, options=options, **arguments, **draw_state(inputs, options)),
        )
        for bad in (np.nan, np.inf, -np.inf):
            state = draw_state(inputs, options)
            spoilt = inputs.with_numbers(0, bad, [np.arange(size) == 69 for size in SIZES])
            got = run(spoilt, options=options | skips, **arguments, **state)
            before = inputs.arguments()
            want = dict(zip(RULES[rule].slots, before["slots"], strict=True)) | {"params": before["params"]}
            for name, arrays in want.items():
                for i, array in enumerate(arrays):
                    assert got[f"{name}[{i}]"].tobytes() == array.tobytes()
            assert list(got["scalars"]) == before["scalars"]
            for name, arrays in draw_state(inputs, options).items():
                assert [a.tobytes() for a in state[name]] == [a.tobytes() for a in arrays]


def test_what_takes_no_sparse_gradients():
    assert [name for name, option in _core.options().items() if option["dense_only"] is not None] == DENSE_ONLY


@pytest.mark.parametrize("name", DENSE_ONLY)
def test_sparse_gradients_are_refused(name):
    inputs = draw("sgd", "float32", [3])
    with pytest.raises(ValueError, match=f"the option {name} takes no sparse gradients: "):
        run(inputs, options={name: 1.0}, indices=[np.array([0, 2, 1])])


_ACCUMULATION = {"gradient_accumulation_steps": 2.0, "loss_scale_factor": 4.0}
_AVERAGE = {"ema_momentum": 0.75, "ema_starts_at_param": 1.0}
# Options and which of two calls it is: the one that applies the rule is the second.
SETS = {
    "loss scale": ({"loss_scale_factor": 4.0}, 1),
    "dynamic loss scale": ({"dynamic_growth_steps": 10.0}, 1),
    "accumulation, adds": (_ACCUMULATION, 1),
    "accumulation, applies": (_ACCUMULATION, 2),
    "value": ({"clipvalue": 0.5}, 1),
    "norm": ({"clipnorm": 0.5, "clipvalue": 0.01}, 1),
    "global norm": ({"global_clipnorm": 0.5}, 1),
    "weight decay": ({"weight_decay": 0.25}, 1),
    "average": (_AVERAGE, 1),
    "average overwrites": ({"ema_momentum": 0.75, "ema_overwrite_frequency": 2.0}, 2),
    "all": (
        _ACCUMULATION | _AVERAGE | {"clipvalue": 0.5, "weight_decay": 0.25, "ema_overwrite_frequency": 1.0},
        2,
    ),
    "all, norm": (
        _ACCUMULATION | _AVERAGE | {"global_clipnorm": 2.0, "weight_decay": 0.25, "ema_overwrite_frequency": 1.0},
        2,
    ),
}
# None, several lanes of every instruction set with a remainder, more than a chunk.
SIZES = [1, 0, 70, 2 * ROW_CHUNK + 3]
# The references do the same operations in the same order but for sums, which may move the last bits of a factor; what
# comes of that in a move, `cautious` enlarges about twice.
LIMITS = {"float32": 2, "float64": 4, "float16": 2, "bfloat16": 2}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", RULES)
def test_agrees_with_numpy(rule, dtype, record_difference):
    """Each set of options, also with `cautious`."""
    for what, (options, step) in SETS.items():
        for numbers in (options, options | {"cautious": 1.0}):
            inputs = draw(rule, dtype, SIZES)
            inputs.step = step
            state, arguments = draw_state(inputs, numbers), {"decays": [True, True, False, True], "loss_scale": 8.0}
            want = run_reference(inputs, numbers, **arguments, **copies(state))
            got = run(inputs, options=numbers, **arguments, **state)
            got |= {f"{name}[{i}]": x for name, arrays in state.items() for i, x in enumerate(arrays)}
            assert got.keys() == want.keys()
            difference = {
                name: difference_of(name, rule) if name == "scalars" and RULES[rule].step_sums else ulps_of_largest
                for name in want
            }
            measured, name = max((difference[name](got[name], want[name]), name) for name in want if want[name].size)
            where = f"{rule}, {what}, {', '.join(numbers)}: {name}"
            record_difference(f"{dtype}, options, ulp of the largest, kernel and NumPy", measured, LIMITS[dtype], where)
            assert measured <= LIMITS[dtype], f"{where} differs by {measured} ulp of the largest element"


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("isa", _core.isas())
@pytest.mark.parametrize("rule", ["sgd", "adam", "lamb"])
def test_cautious_is_the_same_everywhere(rule, isa, num_threads):
    """Its sums are counts, so neither threads nor instruction sets change a bit."""
    inputs = draw(rule, "float32", [300_000, 5])
    assert_same_bits(
        run(inputs, options={"cautious": 1.0}, isa=isa, num_threads=num_threads),
        run(inputs, options={"cautious": 1.0}, isa="baseline"),
    )


def test_cautious_by_hand():
    """Of four elements two agree: momentum carries one up its gradient, and one has none."""
    param = [np.ones(4)]
    slots = [[np.array([0.0, 0.0, 8.0, 0.0])]]
    _core.step(
        "sgd_momentum",
        param,
        [np.array([1.0, -2.0, 1.0, 0.0])],
        slots=slots,
        hyperparameters=[0.5, 0.5],
        options={"cautious": 1.0},
    )
    np.testing.assert_array_equal(slots[0][0], [-0.5, 1.0, 3.5, 0.0])
    np.testing.assert_array_equal(param[0], [1 - 4 / 3 * 0.5, 1 + 4 / 3 * 1.0, 1.0, 1.0])


def test_cautious_hides_no_nan():
    inputs = draw("adam", "float32", [9]).with_numbers(0, np.nan, [np.arange(9) == 4])
    np.testing.assert_array_equal(np.isnan(run(inputs, options={"cautious": 1.0})["params[0]"]), np.arange(9) == 4)


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
