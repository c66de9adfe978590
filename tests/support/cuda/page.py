"""What stands in docs/cuda.md between a marker, `<!-- NAME -->`, and `<!-- end -->`, and is made by a program."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable, Mapping

PAGE = pathlib.Path(__file__).parents[3] / "docs" / "cuda.md"


def table(head, rows) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _place(name: str) -> str:
    return rf"(<!-- {name} -->\n)(.*?)\n?(<!-- end -->)"


def part_of(text: str, name: str) -> str:
    """What the page has at a marker."""
    found = re.search(_place(name), text, flags=re.S)
    if not found:
        raise ValueError(f"the page has no place for {name!r}")
    return found[2]


def filled(text: str, makers: Mapping[str, Callable[[], str]]) -> str:
    """The page with what functions return at the markers of their names."""
    for name, make in makers.items():
        part_of(text, name)
        text = re.sub(_place(name), lambda m, make=make: f"{m[1]}{make()}\n{m[3]}", text, flags=re.S)
    return text
