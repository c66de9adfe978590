"""Tests of the tests: a seeded bug in a copy of the kernels is caught by the check that is there for it."""

import pytest
from interpreting_machine import InterpretingMachine, check_past_2_31
from kernel_cases import CASES, check
from mutants import MUTANTS, compile_rule, missing, patched

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())
NORMS = ("clipnorm", "global_clipnorm", "dynamic")


def _check(folder, mutant, case, rule):
    compiled = compile_rule(patched(folder, mutant), rule, any(name in case for name in NORMS)).encode() + b"\0"
    seen = set()

    def mutate(text, kernel):
        seen.add(kernel)
        return compiled.rstrip(b"\0") if f".entry {kernel}(".encode() in compiled else text

    if case == "past 2^31":
        check_past_2_31(mutate)
    else:
        check(InterpretingMachine(mutate), rule, "float32", CASES[case])
    assert seen


@pytest.mark.parametrize(("rule", "case"), sorted({(m.rule, m.case) for m in MUTANTS.values()}))
def test_the_sources_without_a_bug_pass(tmp_path, rule, case):
    _check(tmp_path, None, case, rule)


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_caught(tmp_path, name):
    mutant = MUTANTS[name]
    with pytest.raises(mutant.caught_as) as caught:
        _check(tmp_path, mutant, mutant.case, mutant.rule)
    print(caught.value)
