"""The pages of docs: every example runs, every public name has its entry, tables are those of the package."""

import pathlib
import re

import matplotlib
import matplotlib.pyplot as plt
import pytest

import fusemin
from fusemin.families.support_table import support_table

matplotlib.use("agg")
# Before any example has made an optimizer of its own fused.
TABLE = support_table()
ROOT = pathlib.Path(__file__).parent.parent
DOCS = ROOT / "docs"


def examples(page):
    return re.findall(r"^( *)```python\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


PAGES = [page for page in sorted(DOCS.rglob("*.md")) if examples(page)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_examples_run(page, tmp_path, monkeypatch):
    """One after the other, as a reader would paste them."""
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "example"}
    for indent, example in examples(page):
        source = re.sub(f"^{indent}", "", example, flags=re.MULTILINE)
        exec(compile(source, str(page), "exec"), namespace)


@pytest.mark.parametrize("notebook", sorted(DOCS.glob("notebooks/*.py")), ids=lambda path: path.stem)
def test_notebooks_run(notebook, monkeypatch):
    """They compare the fit with that of TensorFlow Probability themselves."""
    monkeypatch.setattr(plt, "show", lambda: None)
    plt.close("all")
    exec(compile(notebook.read_text(encoding="utf-8"), str(notebook), "exec"), {"__name__": "notebook"})
    assert len(plt.get_fignums()) == 1
    plt.close("all")


def test_how_to_pages_have_examples():
    assert [page for page in DOCS.glob("howto/*.md") if page not in PAGES] == []


def test_every_public_name_is_in_the_reference():
    text = "".join(page.read_text(encoding="utf-8") for page in DOCS.glob("reference/*.md"))
    public = [f"fusemin.{name}" for name in fusemin.__all__ if not name.startswith("_")]
    public += [f"fusemin.convergence.{name}" for name in fusemin.convergence.__all__]
    missing = [name for name in public if not re.search(rf"{re.escape(name)}\b", text)]
    # That of `fusemin` itself.
    assert missing == ["fusemin.convergence.LossNotDecreasing"]


def test_the_table_is_that_of_the_registry():
    page = (DOCS / "reference/fused.md").read_text(encoding="utf-8")
    assert TABLE in page, "run `python -m fusemin.families.support_table` and paste what it prints"
