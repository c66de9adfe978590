"""Every rule, dtype and option of the embedded PTX, interpreted, against the CPU kernels on the same arrays."""

import numpy as np
import pytest

from tests.support.cuda import ptx
from tests.support.cuda.cuda_step import DeviceStep, cuda
from tests.support.cuda.interpreting_driver import InterpretingDriver, device_array
from tests.support.kernel_step import DTYPES, assert_same_bits, draw, largest_ulps, run
from tests.support.rules_in_numpy import RATE, RULES

CHUNK = cuda.MIN_CHUNK
# Empty, one, around a vector of each dtype, a tail, around a chunk.
SIZES = [0, 1, 3, 4, 5, 8, 9, 255, CHUNK - 1, CHUNK, CHUNK + 1]

every_rule = pytest.mark.parametrize("rule", RULES)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


@pytest.fixture
def driver():
    with InterpretingDriver(ptx.Memory()).installed() as driver:
        yield driver


def device_step(driver):
    driver.memory = ptx.Memory()  # What an earlier step used may have been freed.
    return DeviceStep(
        place=lambda array, offset: device_array(array, driver.memory, offset),
        address=lambda array: array.ctypes.data,
        read=np.copy,
    )


def run_cuda(driver, inputs, **options):
    """As `kernel_step.run`."""
    step = device_step(driver)
    arguments = inputs.arguments()
    arguments["iterations"] = arguments.pop("step") - 1
    try:
        after = step.run(**arguments, **options)
    except RuntimeError:
        driver.raise_error()
        raise
    assert after["iterations"] == [arguments["iterations"] + 1]
    tensors = {name: x for name, x in after.items() if name.split("[")[0] in ("params", *RULES[inputs.rule].slots)}
    scalars = np.array([after[f"scalar[{k}]"][0] for k in range(len(inputs.scalars))])
    return {**tensors, "scalars": scalars}


# Rules that take a power of each element. CUDA's pow differs from the C library's by a unit in the last place at times,
# and the rule then subtracts two powers and divides by the learning rate: in float64 differences count in units of the
# largest element, and four units of a power may become so many more. In the other types the powers go through float64,
# and come out the same.
POWERS = ["ftrl_power", "ftrl_power_kernel"]
POWER_LIMIT = 4 / RATE[0]


def units_of_largest(got, want):
    with np.errstate(all="ignore"):
        return max(
            float(np.abs(got[name] - x).max(initial=0) / np.spacing(np.abs(x).max(initial=1e-300)))
            for name, x in want.items()
        )


def check(rule, got, want, record_difference):
    dtype, what = str(next(iter(want.values())).dtype), ""
    if rule in POWERS and dtype == "float64":
        measured, limit = units_of_largest(got, want), POWER_LIMIT
    else:
        (measured, what), limit = largest_ulps(got, want, rule), 1
    group = "float64 with powers" if limit == POWER_LIMIT else dtype
    record_difference(f"{group}, ulp, PTX and CPU", measured, limit, f"{rule} {what}")
    assert measured <= limit, f"{rule}: {what} differs by {measured} ulp"


@every_rule
@every_dtype
def test_agrees_with_the_cpu(driver, rule, dtype, record_difference):
    inputs = draw(rule, dtype, SIZES)
    check(rule, run_cuda(driver, inputs), run(inputs), record_difference)


@every_rule
@every_dtype
def test_unaligned_tensors(driver, rule, dtype, record_difference):
    """Of every tensor another array is not aligned to a vector; of the first all are."""
    sizes = [100, 100, 100, 100, CHUNK + 5]
    inputs = draw(rule, dtype, sizes)
    kinds = ["gradients", "params", *RULES[rule].slots]
    got = run_cuda(driver, inputs, offset=lambda kind, i: int(i > 0 and kind == kinds[i % len(kinds)]))
    check(rule, got, run(inputs), record_difference)


@every_rule
@every_dtype
def test_new_values_in_memory_of_their_own(driver, rule, dtype, record_difference):
    inputs = draw(rule, dtype, SIZES)
    got = run_cuda(driver, inputs, out_of_place=True)
    check(rule, got, run(inputs), record_difference)


@every_rule
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_rows_and_values(driver, rule, dtype, record_difference):
    inputs = draw(rule, dtype, [5, 8, 1000])
    values = [np.float32(3.5), np.arange(3000.0)]
    step = device_step(driver)
    arguments = inputs.arguments()
    arguments["iterations"] = arguments.pop("step") - 1
    # The rows of the second tensor are not aligned.
    after = step.run(
        **arguments,
        gradient_rows=True,
        param_rows=True,
        values=values,
        offset=lambda kind, i: int(kind.endswith("_rows") and i == 1),
    )
    driver.raise_error()
    want = run(inputs)
    for i, gradient in enumerate(inputs.gradients):
        np.testing.assert_array_equal(after[f"gradient_rows[{i}]"], gradient)
        np.testing.assert_array_equal(after[f"param_rows[{i}]"], after[f"params[{i}]"])
        name = f"params[{i}]"
        check(rule, {name: after[name]}, {name: want[name]}, record_difference)
    for i, value in enumerate(values):
        np.testing.assert_array_equal(after[f"value[{i}]"], value)


@every_rule
def test_hyperparameters_in_device_memory(driver, rule, record_difference):
    inputs = draw(rule, "float32", [100])
    got = run_cuda(driver, inputs, from_memory=range(len(inputs.hyperparameters)))
    check(rule, got, run(inputs), record_difference)


@pytest.mark.parametrize("rule", ["sgd", "adam", "lamb"])
@pytest.mark.parametrize("number", [1, 83, 84, 85, 200])
def test_many_tensors(driver, rule, number, record_difference):
    """More than one table holds; Adam and LAMB have four pointers a tensor, so 84."""
    inputs = draw(rule, "float32", [i % 7 for i in range(number)])
    check(rule, run_cuda(driver, inputs), run(inputs), record_difference)


@every_rule
@every_dtype
def test_non_finite_numbers(driver, rule, dtype, record_difference):
    """In one step, in which each number stands in each kind of array of two tensors of its own."""
    sizes = [50, CHUNK + 3]
    kinds = range(2 + len(RULES[rule].slots))
    cases = [(bad, kind) for bad in (np.nan, np.inf, -np.inf) for kind in kinds]
    inputs = draw(rule, dtype, sizes * len(cases))
    rng = np.random.default_rng(1)
    spoiled = [rng.random(size) < 0.1 for size in sizes]
    for at, (bad, kind) in enumerate(cases):
        where = [np.zeros(size, bool) for size in sizes * len(cases)]
        where[2 * at : 2 * at + 2] = spoiled
        inputs = inputs.with_numbers(kind, bad, where)
    got, want = run_cuda(driver, inputs), run(inputs)
    finite = {name: np.isfinite(x) for name, x in want.items()}
    bad_got, bad_want = ({name: x[~finite[name]] for name, x in of.items()} for of in (got, want))
    assert_same_bits(bad_got, bad_want, f"number and kind of two tensors each: {cases},")
    got = {name: np.where(finite[name], x, x.dtype.type(0)) for name, x in got.items()}
    want = {name: np.where(finite[name], x, x.dtype.type(0)) for name, x in want.items()}
    check(rule, got, want, record_difference)
