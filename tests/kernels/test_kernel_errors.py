"""What `_core.step` refuses: the type of the error, an argument named in its message, and nothing written."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import pytest

from fusemin import _core
from tests.support.kernel_step import draw, run

SIZES = [5, 0, 70]


def valid_arguments():
    arguments = draw("adam", "float32", SIZES).arguments()
    rows = {name: [np.zeros(size, np.float32) for size in SIZES] for name in ("gradient_rows", "param_rows")}
    return arguments | rows


def arrays_of(arguments):
    """All arrays in the arguments, in order, at any depth of lists."""
    if isinstance(arguments, np.ndarray):
        return [arguments]
    if isinstance(arguments, dict):
        return arrays_of(list(arguments.values()))
    return [array for x in arguments for array in arrays_of(x)] if isinstance(arguments, list) else []


def strided(array):
    return np.repeat(array, 2)[::2]


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def byte_swapped(array):
    return array.astype(array.dtype.newbyteorder())


def misaligned(array):
    """A copy that begins at an odd address."""
    memory = np.zeros(array.nbytes + 1, np.uint8)
    result = memory[1:].view(array.dtype)
    result[:] = array
    return result


@dataclass
class Case:
    what: str
    change: Callable[[dict], object]
    error: type[Exception]
    # A regular expression.
    message: str


def of_array(what, path, make, error, message):
    """A case in which `make` replaces one array, the one at `path` in the arguments."""

    def change(arguments):
        *outer, last = path
        for key in outer:
            arguments = arguments[key]
        arguments[last] = make(arguments[last])

    at = path[0] + "".join(rf"\[{i}\]" for i in path[1:])
    return Case(f"{what} {path[0]}", change, error, message.format(at=at))


READ = [("gradients", 2)]
WRITTEN = [("params", 2), ("slots", 1, 2), ("gradient_rows", 2), ("param_rows", 2)]

CASES = [
    *(
        case
        for path in READ + WRITTEN
        for case in [
            of_array("double", path, lambda x: x.astype(np.float64), TypeError, "{at} must have the dtype"),
            of_array("bfloat16", path, lambda x: x.astype(ml_dtypes.bfloat16), TypeError, "{at} must have the dtype"),
            of_array("integer", path, lambda x: x.astype(np.int32), TypeError, "{at} .*int32"),
            of_array("byte-swapped", path, byte_swapped, TypeError, "{at} .*byte order"),
            of_array("misaligned", path, misaligned, ValueError, "{at} must be aligned"),
            of_array("strided", path, strided, ValueError, "{at} must be C-contiguous"),
            of_array("list", path, lambda x: x.tolist(), TypeError, "incompatible function arguments"),
        ]
    ),
    *(
        case
        for path in [*READ, *WRITTEN[1:]]
        for case in [
            of_array("too long", path, lambda x: np.append(x, x[:1]), ValueError, "{at} must have 70 elements.*has 71"),
            of_array("too short", path, lambda x: x[1:].copy(), ValueError, "{at} must have 70 elements.*has 69"),
            of_array("empty", path, lambda x: x[:0].copy(), ValueError, "{at} must have 70 elements.*has 0"),
        ]
    ),
    *(of_array("read-only", path, read_only, ValueError, "{at} must be writable") for path in WRITTEN),
    # The first parameter is the one that the others are compared with.
    of_array("integer first", ("params", 0), lambda x: x.astype(int), TypeError, "{at} .*int64"),
    Case("a slot twice", lambda a: a["slots"][0].__setitem__(2, a["slots"][1][2]), ValueError, "must not overlap"),
    Case("a gradient that is a slot", lambda a: a["gradients"].__setitem__(2, a["slots"][0][2]), ValueError, "overlap"),
    Case("step 0", lambda a: a.update(step=0), ValueError, "step counts from 1, it is 0"),
    Case("no params", lambda a: a["params"].clear(), ValueError, "params must not be empty"),
    Case("too few gradients", lambda a: a["gradients"].pop(), ValueError, "gradients must be as many as params"),
    Case("too few slots", lambda a: a["slots"].pop(), ValueError, "slots must be 2 for rule 'adam', there are 1"),
    Case("too many slots", lambda a: a["slots"].append(a["slots"][0]), ValueError, "slots must be 2 .* there are 3"),
    Case("short slot", lambda a: a["slots"][1].pop(), ValueError, "slots must be as many as params"),
    Case("too few hyperparameters", lambda a: a["hyperparameters"].pop(), ValueError, "hyperparameters must be 6"),
    Case("too many hyperparameters", lambda a: a["hyperparameters"].append(1.0), ValueError, "hyperparameters .* 7"),
    Case("text for a number", lambda a: a["hyperparameters"].insert(0, "lr"), TypeError, "hyperparameters"),
    Case("too many scalars", lambda a: a["scalars"].append(1.0), ValueError, "scalars must be 0 .* there are 1"),
    Case("too few rows of gradients", lambda a: a["gradient_rows"].pop(), ValueError, "gradient_rows"),
    Case("too few rows of params", lambda a: a["param_rows"].pop(), ValueError, "param_rows"),
    Case("unknown rule", lambda a: a.update(rule="adamant"), ValueError, "rule must be one of rules.*'adamant'"),
    Case("unknown isa", lambda a: a.update(isa="mmx"), ValueError, "isa must be one of isas.*'mmx'"),
]


def parameter(case):
    return pytest.param(case, id=case.what)


def test_the_arguments_that_the_cases_spoil_are_valid():
    _core.step(**valid_arguments())


@pytest.mark.parametrize("case", [parameter(case) for case in CASES])
def test_refuses(case):
    arguments = valid_arguments()
    case.change(arguments)
    before = copy.deepcopy(arrays_of(arguments))
    with pytest.raises(case.error, match=case.message):
        _core.step(**arguments)
    for array, old in zip(arrays_of(arguments), before, strict=True):
        np.testing.assert_array_equal(array, old)


def test_too_few_scalars():
    arguments = draw("adam_powers", "float32", SIZES).arguments() | {"scalars": [0.9]}
    with pytest.raises(ValueError, match="scalars must be 2 for rule 'adam_powers', there are 1"):
        _core.step(**arguments)


def test_gradients_may_be_read_only():
    inputs = draw("adam", "float32", SIZES)
    run(inputs)
    arguments = inputs.arguments()
    arguments["gradients"] = [read_only(x) for x in arguments["gradients"]]
    _core.step(**arguments)
    np.testing.assert_array_equal(arguments["params"][2], run(inputs)["params[2]"])


def test_arrays_of_any_shape():
    inputs = draw("adam", "float32", [70])
    arguments = inputs.arguments()
    arguments["params"] = [x.reshape(7, 1, 10) for x in arguments["params"]]
    _core.step(**arguments)
    np.testing.assert_array_equal(arguments["params"][0].ravel(), run(inputs)["params[0]"])
