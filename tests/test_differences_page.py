"""Every line of docs/differences.md names a test that exists."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent


def test_every_difference_has_its_test():
    rows = re.findall(
        r"^\| (?!here|---)(.*) \|$", (ROOT / "docs/differences.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert rows
    for row in rows:
        path, name = re.search(r"`(\S+)::(\w+)`$", row).groups()
        assert re.search(rf"^def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE), f"{path}::{name}"
