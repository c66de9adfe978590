"""How an explanation looks: in terminals of any width, and in notebooks."""

import keras
import pytest
import tensorflow as tf

import fusemin


@pytest.fixture
def explanation():
    variables = [tf.Variable(0.0, name=f"a_layer_with_a_long_name_{i}/<kernel>") for i in range(5)]
    return fusemin.explain(keras.optimizers.Adam(), variables)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_line_is_wider_than_the_terminal(explanation, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    lines = str(explanation).splitlines()
    assert max(map(len, lines)) <= min(width, 120)
    # No broken line: each but the title begins and ends with a border.
    assert all(line[0] in "┏┃┡│└" and line[-1] in "┓┃┩│┘" for line in lines[1:])
    assert "and 2 more" in str(explanation)


def test_what_python_shows_is_the_table(explanation):
    assert repr(explanation) == str(explanation)


def test_notebooks_show_a_table(explanation):
    shown = explanation._repr_html_()
    assert shown.startswith("<table><caption>Adam</caption>")
    assert "a_layer_with_a_long_name_0/&lt;kernel&gt;:0<br>" in shown
    assert "<td>fused, rule &#x27;adam&#x27;, CPU, 140 B a step</td>" in shown
    assert shown.count("<tr>") == 2


def test_notebooks_show_it_once(explanation, monkeypatch, capsys):
    """rich shows what is printed in a notebook at once, beside what the notebook shows of the value."""
    plain = str(explanation)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert str(explanation) == plain
    assert capsys.readouterr().out == ""
