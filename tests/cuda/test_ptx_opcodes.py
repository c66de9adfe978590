"""Every opcode and type of the PTX interpreter against integers and fractions of Python."""

import pytest

from tests.support.cuda.ptx_tables import SNIPPETS


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: snippet.name)
def test_opcode(snippet):
    snippet.check()


def test_the_names_of_the_rows_are_unique():
    names = [snippet.kernel_name for snippet in SNIPPETS]
    assert len(names) == len(set(names))
