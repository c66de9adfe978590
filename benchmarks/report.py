"""Results as JSON, as tables on the terminal and in Markdown, and as plots."""

import dataclasses
import json
import re

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.question import Question
from benchmarks.timing import Row

CONSOLE = Console()
_PROGRESS = Console(stderr=True, log_path=False)
for console in (CONSOLE, _PROGRESS):
    if not console.is_terminal:
        console.width = 190  # A file has no width; tables would be squeezed into 80.


def progress(text: str) -> None:
    """Says on stderr what is being done: a question takes minutes."""
    _PROGRESS.log(escape(text), highlight=False)


_UNITS = {
    "s": [(1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")],
    "B": [(1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")],
}


def _rounded(value):
    """Numbers of five digits, all the way down: more would be noise, and the file is kept in the repository."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {str(key): _rounded(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(v) for v in value]
    return value


def rows_json(rows: list[Row]) -> list[dict]:
    """All that was measured of each rival, with median and quartiles."""
    return [_rounded({**dataclasses.asdict(row), "median": row.median, "quartiles": row.quartiles}) for row in rows]


def question_json(question: Question, rows: list[Row]) -> dict:
    """All that was measured."""
    return {
        "title": question.title,
        "method": question.method,
        "summary": question.summarize(rows),
        "rows": rows_json(rows),
    }


def dumps(result: dict) -> str:
    """JSON with a row a line."""
    text = json.dumps(result, indent=1, allow_nan=False, ensure_ascii=False)
    # The lists and dicts within rows, on one line each.
    compact = re.compile(r"(?<=\": )(\[[^\[\]{}\"]*\]|\{[^\[\]{}]*\})")
    return compact.sub(lambda match: re.sub(r"\s*\n\s*", " ", match[0]), text) + "\n"


def rows_of(question: dict) -> list[Row]:
    """The rows of a question in JSON."""
    fields = [field.name for field in dataclasses.fields(Row)]
    return [Row(**{name: row[name] for name in fields}) for row in question["rows"]]


def _quantities(row: Row) -> tuple[str, str]:
    """The median and the quartiles, in a unit that leaves one to three digits of the median before the point."""
    scale, unit = next(((s, u) for s, u in _UNITS[row.unit] if abs(row.median) >= s), _UNITS[row.unit][-1])
    median, first, third = (number(value / scale) for value in (row.median, *row.quartiles))
    return f"{median} {unit}", f"{first} to {third}" if len(row.samples) > 1 else ""


def number(value) -> str:
    """A number as tables show it."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


# The heading of each column, and whether it is of numbers.
Cells = tuple[list[tuple[str, bool]], list[list[list[str]]]]


def question_cells(rows: list[Row]) -> Cells:
    """The columns, and the rows in sections, one for each case, fastest or smallest first."""
    facts = list(dict.fromkeys(name for row in rows for name in row.facts))
    columns = [("case", False), ("rival", False), *((n, True) for n in ("median", "quartiles", *facts))]
    sections = []
    for case in dict.fromkeys(row.case for row in rows):
        here = sorted((row for row in rows if row.case == case), key=lambda row: row.median)
        sections.append(
            [[case, row.rival, *_quantities(row), *(number(row.facts.get(name, "")) for name in facts)] for row in here]
        )
    return columns, sections


def acceptance_cells(lines: list[dict]) -> Cells:
    """One row for each acceptance line and case."""
    columns = [("issue", False), ("what", False), ("case", False)]
    columns += [(name, True) for name in ("measured", "quartiles", "limit", "met")]
    section = []
    for line in lines:
        first, third = (number(value) for value in line["quartiles"])
        limit = f"{'at least' if line['at_least'] else 'at most'} {number(line['limit'])}"
        met = "yes" if line["met"] else "no"
        section.append(
            [line["issue"], line["what"], line["case"], number(line["measured"]), f"{first} to {third}", limit, met]
        )
    return columns, [section]


def machine_cells(machine: dict) -> Cells:
    packages = ", ".join(f"{name} {version or 'not installed'}" for name, version in machine["packages"].items())
    facts = {**machine, "packages": packages}
    return [("machine", False), ("", False)], [[[name, number(value)] for name, value in facts.items()]]


def table(title: str, cells: Cells) -> Table:
    """For the terminal; a case is named once."""
    columns, sections = cells
    result = Table(title=escape(title), title_justify="left")
    for name, is_number in columns:
        result.add_column(escape(name), justify="right" if is_number else "left", overflow="fold")
    for section in sections:
        result.add_section()
        last = None
        for row in section:
            shown = ["", *row[1:]] if row[0] == last and len(row) > 2 else row
            result.add_row(*map(escape, shown))
            last = row[0]
    return result


def markdown(cells: Cells) -> str:
    """For the documentation."""
    columns, sections = cells
    lines = ["| " + " | ".join(name for name, _ in columns) + " |"]
    lines.append("| " + " | ".join("---:" if is_number else "---" for _, is_number in columns) + " |")
    lines += ["| " + " | ".join(row) + " |" for section in sections for row in section]
    return "\n".join(lines)


def save_plot(question: Question, rows: list[Row], path) -> None:
    """Writes the question's plot as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    figure.suptitle(question.title)
    question.plot(figure, rows)
    figure.savefig(path, dpi=90)
