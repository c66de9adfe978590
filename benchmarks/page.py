"""`python -m benchmarks.page RESULTS.json PAGE.md`: puts tables, answers and plots of a run into a page.

The plots are written beside the page. What stands in it between `<!-- results: NAME -->` and `<!-- end -->` is
replaced: NAME is "machine", "acceptance", or a question. All else is left as it is.
"""

import argparse
import json
import pathlib
import re

from benchmarks import report
from benchmarks.questions import QUESTIONS

_PART = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def _question(name, question) -> str:
    table = report.markdown(report.question_cells(report.rows_of(question)))
    answers = "\n".join(f"- {line}" for line in question["summary"])
    return (
        f"![{question['title']}]({name}.png)\n\n{answers}\n\n"
        f"<details><summary>All figures of this question</summary>\n\n{table}\n\n</details>"
    )


def filled(page: str, result: dict) -> str:
    """The page with the parts of a result in it.

    Raises:
      ValueError: the page has a part of which the result has nothing.
    """

    def fill(match):
        name = match[2]
        if name == "machine":
            text = report.markdown(report.machine_cells(result["machine"]))
        elif name == "acceptance":
            text = report.markdown(report.acceptance_cells(result["acceptance"]))
        elif name in result["questions"]:
            text = _question(name, result["questions"][name])
        else:
            raise ValueError(f"the page has a part '{name}', the results have only {', '.join(result['questions'])}")
        return f"{match[1]}{text}\n{match[3]}"

    return _PART.sub(fill, page)


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__.splitlines()[0])
    parser.add_argument("results", type=pathlib.Path, help="what `python -m benchmarks --json` wrote")
    parser.add_argument("page", type=pathlib.Path)
    arguments = parser.parse_args()
    result = json.loads(arguments.results.read_text(encoding="utf-8"))
    for name, question in result["questions"].items():
        report.save_plot(QUESTIONS[name], report.rows_of(question), arguments.page.parent / f"{name}.png")
    arguments.page.write_text(filled(arguments.page.read_text(encoding="utf-8"), result), encoding="utf-8")


if __name__ == "__main__":
    main()
