"""The README is true: its example runs as it stands, its links lead somewhere."""

import pathlib
import re
import subprocess
import sys

import pytest

README = (pathlib.Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_links_lead_somewhere():
    root = pathlib.Path(__file__).parent.parent
    links = re.findall(r"\]\(([^)#]+)", README)
    assert links
    assert [link for link in links if not link.startswith("http") and not (root / link).exists()] == []


def test_the_example_runs(tmp_path):
    example = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    fitted = [float(x) for x in re.search(r"\[(.*?)\]", done.stdout)[1].split()]
    assert fitted == pytest.approx([1.0, 2.0], abs=1e-3)
    assert "fused, rule 'adam'" in done.stdout
