"""The README is true: its table is that of the registry, its example runs as it stands."""

import pathlib
import re
import subprocess
import sys

import pytest

from fusemin.families.support_table import support_table

README = (pathlib.Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


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
