"""The benchmark suite runs from end to end at tiny sizes. No time is asserted. The page of results is that of the
results."""

import json
import math
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGE, RESULTS = ROOT / "docs/performance.md", ROOT / "docs/performance.json"

# What is measured wherever the tests run. torch and jax are left out where they are not installed.
ADAMS = ["keras Adam", "tf_keras Adam", "tf_keras legacy Adam", "tf.compat.v1 Adam"]
OF_MINIMIZE = {f"{library}, {adam}" for library in ("fusemin", "tfp") for adam in ADAMS}
TAPE = "GradientTape loop, keras Adam"
RIVALS = {
    "steps": {
        *OF_MINIMIZE,
        *("tfp, keras Adam, eager", "tfp, tf_keras legacy Adam, eager", "fusemin, keras Adam, eager"),
        *(TAPE, "loss and gradient alone"),
    },
    "update": {"fusemin, op", "fusemin, kernel", "copy", "stock, keras Adam", "stock, tf_keras legacy Adam"},
    "first_call": {
        f"{library}, {adam}{mode}"
        for library in ("fusemin", "tfp")
        for adam, mode in ((ADAMS[0], ""), (ADAMS[2], ""), (ADAMS[0], ", jit"))
    },
    "memory": {"fusemin", "tfp"},
    "leak": {"fusemin", "tfp"},
    "models": {*OF_MINIMIZE, TAPE, "GradientTape loop, fuse(keras Adam)", "loss and gradient alone"},
    "threads": {f"fusemin, {what}, {n}" for what in ("op", "keras Adam") for n in ("1 thread", "2 threads")},
    "fit": {"stock Adam", "fused Adam", "no update"},
    "runs": {"bare", "watched"},
    "xla": {*(f"{library}, keras Adam, jit" for library in ("fusemin", "tfp")), "10 steps", "converges at 5 of 100"},
}
CASES_OF_MODELS = 5


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The folder that a smoke run wrote to, the result, and what it printed."""
    folder = tmp_path_factory.mktemp("benchmarks")
    command = [
        sys.executable,
        "-m",
        "benchmarks",
        "--smoke",
        "--json",
        str(folder / "all.json"),
        "--plots",
        str(folder),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]
    return folder, json.loads((folder / "all.json").read_text(encoding="utf-8")), done.stdout


def test_all_questions_are_answered(smoke):
    folder, result, printed = smoke
    assert result["size"] == "smoke"
    assert result["machine"]["cores"] >= 1
    assert result["machine"]["packages"]["fusemin"]
    assert result["questions"].keys() == RIVALS.keys()
    for name, question in result["questions"].items():
        assert {row["rival"] for row in question["rows"]} >= RIVALS[name]
        for row in question["rows"]:
            assert row["samples"], row
            for sample in row["samples"]:
                assert math.isfinite(sample), row
                # What calls leave behind may be nothing, and a process may even shrink.
                assert sample > 0 or name == "leak", row
            first, third = row["quartiles"]
            assert first <= row["median"] <= third, row
        assert question["summary"]
        assert question["method"]
        assert question["title"] in printed
        assert all(line in printed for line in question["summary"])
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert len({row["case"] for row in result["questions"]["models"]["rows"]}) == CASES_OF_MODELS


def test_acceptance_lines_compare_what_was_measured(smoke):
    _, result, printed = smoke
    assert "What was to be shown" in printed
    assert {"models", "fit", "xla"} <= {line["question"] for line in result["acceptance"]}
    for line in result["acceptance"]:
        medians = {
            row["rival"]: row["median"]
            for row in result["questions"][line["question"]]["rows"]
            if row["case"] == line["case"]
        }
        numerator, denominator = line["compared"]
        if line["compared"][0].startswith("tfp"):
            stock = {name: median for name, median in medians.items() if name.startswith("tfp")}
            of_mode = {name: m for name, m in stock.items() if name.endswith("jit") == numerator.endswith("jit")}
            assert medians[numerator] == min(of_mode.values()), line
        assert medians[numerator] > 0
        assert medians[denominator] > 0
        assert line["met"] == (
            line["measured"] >= line["limit"] if line["at_least"] else line["measured"] <= line["limit"]
        )


def test_a_page_is_filled_from_a_run(smoke, tmp_path):
    folder, result, _ = smoke
    parts = ["machine", "acceptance", *RIVALS]
    page = tmp_path / "page.md"
    text = "".join(f"before {part}\n<!-- results: {part} -->\nold\n<!-- end -->\n" for part in parts)
    page.write_text(text + "after\n", encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks.page", str(folder / "all.json"), str(page)]
    subprocess.run(command, cwd=ROOT, check=True)
    text = page.read_text(encoding="utf-8")
    assert "old" not in text
    assert all(f"before {part}\n<!-- results: {part} -->\n" in text for part in parts)
    assert text.endswith("<!-- end -->\nafter\n")
    for question in result["questions"].values():
        for row in question["rows"]:
            assert f"| {row['case']} | {row['rival']} |" in text
        assert all(f"- {line}" in text for line in question["summary"])


def test_the_page_is_that_of_the_results():
    from benchmarks.page import filled

    page = PAGE.read_text(encoding="utf-8")
    assert page == filled(page, json.loads(RESULTS.read_text(encoding="utf-8"))), (
        "run `python -m benchmarks.page docs/performance.json docs/performance.md`"
    )


def test_plots_of_the_page_are_there():
    for name in RIVALS:
        assert f"({name}.png)" in PAGE.read_text(encoding="utf-8")
        assert (ROOT / f"docs/{name}.png").read_bytes().startswith(b"\x89PNG")


def test_results_of_the_page_are_of_a_full_run():
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert results["size"] == "full"
    assert results["questions"].keys() == RIVALS.keys()
    from benchmarks.acceptance import evaluate

    assert results["acceptance"] == evaluate(results)


def test_unknown_question():
    command = [sys.executable, "-m", "benchmarks", "no_such_question"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no such question: no_such_question (there are: steps, update, first_call, memory, leak" in done.stderr
