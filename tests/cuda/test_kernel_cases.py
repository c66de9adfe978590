"""The table of `kernel_cases`, PTX-interpreted, against the CPU kernels."""

import pytest

from tests.support.cuda import launch_parameters
from tests.support.cuda.interpreting_machine import InterpretingMachine
from tests.support.cuda.kernel_cases import CASES, CHUNK, LARGE_CASES, LIMIT, check, check_launches_again, limit_of
from tests.support.kernel_step import DTYPES, draw
from tests.support.rules_in_numpy import RULES

# Every rule and dtype takes the step of all sizes in test_rules_interpreted.py. The options are one template
# for all: rules without slots, with two, with a trust ratio, and with scalars of their own show it.
RULES_OF_CASES = ["adam", "lamb", "sgd", "adam_powers"]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("rule", RULES_OF_CASES)
def test_case(rule, name, record_difference):
    measured = check(InterpretingMachine(), rule, "float32", CASES[name])
    record_difference("float32 cases, ulp, PTX and CPU", measured, LIMIT, f"{rule} {name}")


@pytest.mark.parametrize("name", ["all", "rows", "clipnorm", "accumulation, clipnorm", "unaligned rows", "cautious"])
@pytest.mark.parametrize("dtype", [d for d in DTYPES if d != "float32"])
def test_case_of_other_dtypes(dtype, name, record_difference):
    measured = check(InterpretingMachine(), "adam", dtype, CASES[name])
    limit = limit_of("adam", DTYPES[dtype], CASES[name].has_norms)
    record_difference(f"{dtype} cases, ulp, PTX and CPU", measured, limit, f"adam {name}")


@pytest.mark.parametrize("name", ["all", "cautious"])
@pytest.mark.parametrize("rule", [rule for rule in RULES if rule not in RULES_OF_CASES])
def test_case_of_other_rules(rule, name, record_difference):
    measured = check(InterpretingMachine(), rule, "float32", CASES[name])
    record_difference("float32 cases, ulp, PTX and CPU", measured, LIMIT, f"{rule} {name}")


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        ("adam", "more than 256 chunks"),
        ("lamb", "more than 256 chunks"),
        ("sgd", "chunks of twice the size"),
        ("adam", "500 tensors"),
    ],
)
def test_large_case(rule, name, record_difference):
    machine = InterpretingMachine()
    measured = check(machine, rule, "float32", LARGE_CASES[name])
    record_difference("float32 cases, ulp, PTX and CPU", measured, LIMIT, f"{rule} {name}")
    parameters = [launch_parameters.parse(x.kernel, x.parameters) for x in machine.driver.launches]
    assert {p.chunk for p in parameters} == {2 * CHUNK if "twice" in name else CHUNK}


@pytest.mark.parametrize("rule", ["adam", "nadam"])
def test_the_launches_of_a_step_again_and_again(rule):
    check_launches_again(InterpretingMachine(), rule, "float32")


@pytest.mark.parametrize("options", [{}, {"global_clipnorm": 0.5}, {"clipnorm": 0.5, "weight_decay": 0.1}])
def test_a_step_calls_nothing_that_waits(options):
    """Once its kernels are loaded a step makes a context current, launches, and that is all: no copy, no waiting."""
    machine = InterpretingMachine()
    arguments = draw("adam", "float32", (5, 3000)).arguments()
    del arguments["step"]
    with machine.step() as step:
        step.run(**arguments, options=options)
        machine.driver.calls.clear()
        step.run(**arguments, options=options)
        assert step.num_launches == (2 if options else 1)
        launches = ["cuLaunchKernel"] * step.num_launches
        assert machine.driver.calls == ["cuStreamGetCtx", "cuCtxPushCurrent", *launches, "cuCtxPopCurrent"]
