"""The README is true: its table is that of the registry, its example runs as it stands."""

import pathlib
import re
import subprocess
import sys

import pytest

from fusemin.families.support_table import support_table

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
OPTIMIZERS = (ROOT / "docs" / "optimizers.md").read_text(encoding="utf-8")


def test_the_table_is_that_of_the_registry():
    table = re.search(r"<!-- support table -->\n(.*?)\n<!-- end -->", README, re.DOTALL)[1]
    assert table == support_table(), "run `python -m fusemin.families.support_table` and paste what it prints"


def test_the_example_runs(tmp_path):
    example = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    fitted = [float(x) for x in re.search(r"\[(.*?)\]", done.stdout)[1].split()]
    assert fitted == pytest.approx([1.0, 2.0], abs=1e-3)
    assert "fused, rule 'adam'" in done.stdout


def test_the_examples_of_the_optimizers_run(tmp_path):
    examples = re.findall(r"```python\n(.*?)```", OPTIMIZERS, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", "\n".join(examples)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    adan, mse, prodigy, cautious = done.stdout.strip().splitlines()
    numbers = [[float(x) for x in re.findall(r"[-+.e\d]+", line)] for line in (adan, mse, prodigy, cautious)]
    assert numbers[0] == pytest.approx([1.0, 1.0], abs=0.02)
    assert numbers[1][0] < 0.01
    assert numbers[2] == pytest.approx([3000.0, -2000.0], rel=1e-3)
    assert numbers[3] == pytest.approx([1.0, 1.0, 0.9], abs=0.01)
