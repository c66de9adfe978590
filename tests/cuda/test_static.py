"""What can be known of the kernels without running them: registers, spills, vector loads and stores, and the page that
says so."""

import re
import subprocess

import pytest

from fusemin import _core
from tests.support.cuda.cubin import resources
from tests.support.cuda.cuda_tables import ARCHITECTURES, DTYPES, LIMITS, PAGE, all_resources, with_tables
from tests.support.cuda.nvidia_tools import ptxas

IMAGES = _core.cuda.images()
KERNELS = _core.cuda.kernels()
EVERYTHING = all_resources()


# A vector of eight halves, each with two powers, takes 8 bytes of stack on the oldest architecture. It is an option of
# Ftrl that few use; the page says so.
SPILLS = {("ftrl_power", "float16", "sm_75"): 8, ("ftrl_power_kernel", "float16", "sm_75"): 8}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", KERNELS)
def test_registers_and_stack(rule, dtype, architecture):
    for variant in ("plain", "around"):
        found = EVERYTHING[architecture][f"{KERNELS[rule][1]}_{dtype}_{variant}"]
        assert found.registers <= LIMITS[dtype]
        # Spilled registers would be there.
        assert found.stack <= SPILLS.get((rule, dtype, architecture), 0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_registers_and_stack_of_the_kernels_of_no_rule(architecture):
    for kernel in (*[f"sum_gradients_{dtype}" for dtype in DTYPES], "fill_rows"):
        assert EVERYTHING[architecture][kernel].registers <= 64
        assert EVERYTHING[architecture][kernel].stack == 0


def test_every_unit_has_ptx_and_every_cubin():
    for images in IMAGES.values():
        assert set(images) == {"ptx", *ARCHITECTURES}
    assert set(KERNELS) == set(_core.rules())


@pytest.mark.parametrize("unit", ["common", "lion"])
def test_ptxas_says_the_same(unit, tmp_path):
    """Of the PTX that ships: that it makes these cubins, and that what we read in them is what it says."""
    source = tmp_path / "unit.ptx"
    source.write_bytes(IMAGES[unit]["ptx"])
    for architecture in ARCHITECTURES:
        command = [ptxas(), f"-arch={architecture}", "-O3", "--verbose", source, "-o", tmp_path / "unit.cubin"]
        said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True).stdout
        blocks = re.split(r"Compiling entry function ", said)[1:]
        assert blocks
        for block in blocks:
            kernel = block.split("'")[1]
            stack, stores, loads = re.search(
                r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", block
            ).groups()
            registers = re.search(r"Used (\d+) registers", block)[1]
            assert (stores, loads) == ("0", "0")
            assert resources(IMAGES[unit][architecture])[kernel] == (int(registers), int(stack))


def body(rule, dtype, variant):
    unit, kernel = KERNELS[rule]
    text = IMAGES[unit]["ptx"].decode()
    at = text.index(f".entry {kernel}_{dtype}_{variant}(")
    end = text.find(".entry", at + 1)
    return text[at : None if end < 0 else end]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", KERNELS)
def test_aligned_elements_are_loaded_and_stored_by_16_bytes(rule, dtype):
    slots = len(_core.rules()[rule]["slots"])
    # The gradient, the parameter and the slots are read, all but the gradient are written; LAMB reads parameter and
    # slots again, and writes the parameter in its second pass only.
    twice = rule == "lamb"
    loads, stores = 2 + slots + (1 + slots if twice else 0), 1 + slots
    plain = body(rule, dtype, "plain")
    assert plain.count("ld.global.v4.u32") == loads
    assert plain.count("st.global.v4.u32") == stores
    around = body(rule, dtype, "around")
    # Average, accumulator and rows beside them.
    assert around.count("ld.global.v4.u32") > loads
    assert around.count("st.global.v4.u32") >= stores + 4
    for text in (plain, around):
        assert ".local" not in text


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", KERNELS)
def test_no_multiply_add_is_contracted(rule, dtype):
    """Only division, roots and powers refine by fused multiply-adds, which their names show."""
    for variant in ("plain", "around"):
        assert not re.search(r"\bfma\.rn\.f32\b", body(rule, dtype, variant))


# NVRTC does not give the same PTX for the same source at each build, and ptxas then takes a register more or less.
REBUILT = 2


def test_the_page_has_these_tables():
    written, now = PAGE.read_text(encoding="utf-8"), with_tables(PAGE.read_text(encoding="utf-8"))
    (before, registers), (before_now, registers_now) = (t.split("<!-- registers table -->") for t in (written, now))
    advice = "run python -m tests.support.cuda.cuda_tables"
    assert before_now == before, advice
    (words, numbers), (words_now, numbers_now) = (
        (re.split(r"\d+", t), [*map(int, re.findall(r"\d+", t))]) for t in (registers, registers_now)
    )
    assert words_now == words, advice
    assert max(abs(a - b) for a, b in zip(numbers, numbers_now, strict=True)) <= REBUILT, advice
