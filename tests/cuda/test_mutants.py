"""Tests of the tests: a seeded bug in a copy of the kernels is caught by the check that is there for it."""

import pytest

from tests.support.cuda.interpreting_machine import InterpretingMachine, check_past_2_31
from tests.support.cuda.kernel_cases import CASES, check
from tests.support.cuda.mutants import CSRC, MUTANTS, compile_rule, missing, patched

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())
NORMS = ("clipnorm", "global_clipnorm", "dynamic")


def _check(csrc, case, rule, resident_blocks):
    compiled = compile_rule(csrc, rule, any(name in case for name in NORMS)).encode()
    replaced = set()

    def mutate(text, kernel):
        if f".entry {kernel}(".encode() not in compiled:
            return text
        replaced.add(kernel)
        return compiled

    if case == "past 2^31":
        check_past_2_31(mutate)
    else:
        check(InterpretingMachine(mutate, resident_blocks=resident_blocks), rule, "float32", CASES[case])
    assert replaced, "the mutant was not run"


@pytest.mark.parametrize(
    ("rule", "case", "resident_blocks"), sorted({(m.rule, m.case, m.resident_blocks) for m in MUTANTS.values()})
)
def test_the_sources_without_a_bug_pass(rule, case, resident_blocks):
    _check(CSRC, case, rule, resident_blocks)


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_caught(tmp_path, name):
    mutant = MUTANTS[name]
    csrc = patched(tmp_path, mutant)
    with pytest.raises(mutant.caught_as):
        _check(csrc, mutant.case, mutant.rule, mutant.resident_blocks)
