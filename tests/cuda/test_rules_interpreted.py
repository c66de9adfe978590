"""Every rule, dtype and option of the embedded PTX, interpreted, against the CPU kernels on the same arrays."""

import numpy as np
import ptx
import pytest
from cuda_step import DeviceStep, cuda
from interpreting_driver import InterpretingDriver, device_array
from kernel_step import DTYPES, draw, largest_ulps, run
from rules_in_numpy import RULES

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


@every_rule
@every_dtype
def test_agrees_with_the_cpu(driver, rule, dtype, record_difference):
    inputs = draw(rule, dtype, SIZES)
    measured, name = largest_ulps(run_cuda(driver, inputs), run(inputs), rule)
    record_difference(f"{dtype}, ulp, PTX and CPU", measured, 1, f"{rule} {name}")
    assert measured <= 1, f"{rule}: {name} differs by {measured} ulp"
