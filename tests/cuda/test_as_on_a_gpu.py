"""What the kit has written down on a GPU, beside the interpreter and the page.

Steps of float64 whose difference from the CPU kernels the kit kept must have the very same difference here, which a
step that is a unit off near the largest would not have."""

import json
import pathlib
import re

import pytest

from tests.gpu.kit.page import PARTS
from tests.support.cuda.interpreting_machine import InterpretingMachine
from tests.support.cuda.kernel_cases import CASES, check
from tests.support.cuda.page import PAGE, filled

KIT = pathlib.Path(__file__).parents[2] / "docs/gpu/kit.json"
WRITTEN = re.compile(r"(?P<rule>\w+), float64, (?P<case>.+): AssertionError: .* differs by (?P<ulp>[\d.]+) ulp")
# The kit kept those over the limits of then.
FOUND = [WRITTEN.match(line) for line in json.loads(KIT.read_text(encoding="utf-8"))["parts"]["kernels"]["failures"]]


def test_all_lines_are_understood():
    assert len(FOUND) == 96
    assert None not in FOUND


@pytest.mark.parametrize("found", FOUND[::8], ids=lambda found: f"{found['rule']}-{found['case']}")
def test_the_difference_is_that_of_the_gpu(found):
    measured = check(InterpretingMachine(), found["rule"], "float64", CASES[found["case"]])
    assert measured == float(found["ulp"])


def test_the_page_has_what_was_measured():
    text = PAGE.read_text(encoding="utf-8")
    assert text == filled(text, PARTS), "run `python -m tests.gpu.kit.page`"
