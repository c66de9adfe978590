"""What can be known of the kernels without running them: registers, spills, vector loads and stores, and the page that
says so. Of a build with FUSEMIN_CUDA_ARCHITECTURES=all for every kernel and architecture; of another one for the
architectures that it has, and for two units on all of them."""

import re

import pytest

from fusemin import _core
from fusemin._build import RULES
from tests.support.cuda.cubin import resources
from tests.support.cuda.cuda_tables import (
    ARCHITECTURES,
    DTYPES,
    LIMITS,
    assembled,
    images,
    predictions_table,
    registers,
    unit_resources,
)
from tests.support.cuda.page import PAGE, part_of

UNITS = tuple(_core.cuda.images())
KERNELS = _core.cuda.kernels()
BUILT = tuple(f"sm_{a}" for a in _core.build_info()["cuda_architectures"].split())
SAMPLE = ("common", "lion")
CHECKED = {unit: ARCHITECTURES if unit in SAMPLE else BUILT for unit in UNITS}

# Bytes of stack, at most, in float32 and the halves. Vectors whose elements each have two powers, or many slots, take
# some, most on sm_70. Few use these rules; the page has what was found. 8 more, since NVRTC does not give the same PTX
# at each build.
_STACK = {"adan": 56, "ftrl_power": 48, "ftrl_power_kernel": 48, "prodigy": 56}


def most_stack(rule, dtype):
    return 0 if dtype == "float64" else _STACK.get(rule, 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", KERNELS)
def test_registers_and_stack(rule, dtype):
    unit, kernel = KERNELS[rule]
    for architecture in CHECKED[unit]:
        for variant in ("plain", "options"):
            found = unit_resources(unit, architecture)[f"{kernel}_{dtype}_{variant}"]
            assert found.registers <= LIMITS[dtype]
            # Spilled registers would be there.
            assert found.stack <= most_stack(rule, dtype)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_registers_and_stack_of_the_kernels_of_no_rule(architecture):
    found = unit_resources("common", architecture)
    for kernel in (*[f"sum_gradients_{dtype}" for dtype in DTYPES], "fill_rows"):
        assert found[kernel].registers <= 64
        assert found[kernel].stack == 0


def test_every_unit_has_ptx_and_every_cubin():
    for unit in UNITS:
        assert set(images(unit)) == {"ptx", *BUILT}
        assert b"\n.target sm_70\n" in images(unit)["ptx"]
    assert set(BUILT) <= set(ARCHITECTURES)
    assert set(KERNELS) == set(RULES)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("unit", SAMPLE)
def test_ptxas_says_the_same(unit, architecture):
    """Of the PTX that ships: that it makes the cubins, and that what we read in them is what it says."""
    cubin, said = assembled(unit, architecture)
    blocks = re.split(r"Compiling entry function ", said)[1:]
    assert blocks
    for block in blocks:
        kernel = block.split("'")[1]
        stack, stores, loads = re.search(
            r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", block
        ).groups()
        used = re.search(r"Used (\d+) registers", block)[1]
        assert (stores, loads) == ("0", "0")
        for shipped in (cubin, images(unit).get(architecture, cubin)):
            assert resources(shipped)[kernel] == (int(used), int(stack))


def body(rule, dtype, variant):
    unit, kernel = KERNELS[rule]
    text = images(unit)["ptx"].decode()
    at = text.index(f".entry {kernel}_{dtype}_{variant}(")
    end = text.find(".entry", at + 1)
    return text[at : None if end < 0 else end]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", KERNELS)
def test_aligned_elements_are_loaded_and_stored_by_16_bytes(rule, dtype):
    slots = len(RULES[rule]["slots"])
    # The gradient, the parameter and the slots are read, all but the gradient are written; LAMB reads parameter and
    # slots again, and writes the parameter in its second pass only.
    twice = rule == "lamb"
    loads, stores = 2 + slots + (1 + slots if twice else 0), 1 + slots
    plain = body(rule, dtype, "plain")
    assert plain.count("ld.global.v4.u32") == loads
    assert plain.count("st.global.v4.u32") == stores
    with_options = body(rule, dtype, "options")
    # Average, accumulator and rows beside them.
    assert with_options.count("ld.global.v4.u32") > loads
    assert with_options.count("st.global.v4.u32") >= stores + 4
    for text in (plain, with_options):
        assert ".local" not in text


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", KERNELS)
def test_no_multiply_add_is_contracted(rule, dtype):
    """Only division, roots and powers refine by fused multiply-adds, which their names show."""
    for variant in ("plain", "options"):
        assert not re.search(r"\bfma\.rn\.f32\b", body(rule, dtype, variant))


# NVRTC does not give the same PTX for the same source at each build, and ptxas then takes a register more or less.
REBUILT = 2


ADVICE = "run python -m tests.support.cuda.cuda_tables"
PAGE_TEXT = PAGE.read_text(encoding="utf-8")


def test_the_page_has_these_predictions():
    assert part_of(PAGE_TEXT, "predictions table") == predictions_table(), ADVICE


def test_the_page_has_these_registers():
    head, _, *rows = (
        [cell.strip() for cell in line.split("|")[1:-1]] for line in part_of(PAGE_TEXT, "registers table").split("\n")
    )
    assert head == ["rule", "dtype", *ARCHITECTURES], ADVICE
    assert [(rule, dtype) for rule, dtype, *_ in rows] == [(f"`{r}`", d) for r in sorted(RULES) for d in DTYPES], ADVICE
    for rule, dtype, *cells in rows:
        rule = rule.strip("`")
        for architecture, written in zip(ARCHITECTURES, cells, strict=True):
            if architecture in CHECKED[KERNELS[rule][0]]:
                numbers = zip(written.split("/"), registers(rule, dtype, architecture).split("/"), strict=True)
                assert max(abs(int(a) - int(b)) for a, b in numbers) <= REBUILT, ADVICE
