"""`python -m benchmarks`: answers questions about speed and memory, each by a comparison side by side in one run.

Nothing of TensorFlow is imported at the top: questions that measure memory start fresh processes, which import this
module again.
"""

import argparse
import logging
import os
import pathlib
import sys
import time

from rich.markdown import Markdown


def _parser(names):
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=f"{', '.join(names)}; by default all")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to see that all of it runs")
    parser.add_argument("--rounds", type=int, metavar="N", help="instead of the number that belongs to a question")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write all figures and the machine to FILE")
    parser.add_argument("--plots", type=pathlib.Path, metavar="DIR", help="write a PNG for each question to DIR")
    parser.add_argument("--list", action="store_true", help="print the questions with their method, and run nothing")
    return parser


def _set_up(smoke: bool):
    """The environment of this process, and of those started from here: before TensorFlow and torch are imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # That a function is traced often: each rival is one of its own.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    # All that is measured runs on the CPU, also where there is a GPU.
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from benchmarks.machine import num_threads

    # torch counts cores otherwise than TensorFlow and jax, which take those that the process may use.
    os.environ.setdefault("OMP_NUM_THREADS", str(num_threads()))
    if smoke:
        # torch's threads spin at each barrier, as is best on a machine that is free; where tests run beside others it
        # may take milliseconds.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def main():
    _set_up("--smoke" in sys.argv)
    from benchmarks import acceptance, machine, report
    from benchmarks.questions import QUESTIONS

    parser = _parser(QUESTIONS)
    arguments = parser.parse_args()
    unknown = set(arguments.questions) - set(QUESTIONS)
    if unknown:
        parser.error(f"no such question: {', '.join(sorted(unknown))} (there are: {', '.join(QUESTIONS)})")
    if arguments.rounds is not None and arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    questions = [QUESTIONS[name] for name in arguments.questions or QUESTIONS]
    if arguments.list:
        for question in questions:
            report.CONSOLE.print(Markdown(f"# {question.name}: {question.title}\n\n{question.method}"), "")
        return

    size = "smoke" if arguments.smoke else "full"
    result = {"machine": machine.describe(), "size": size, "questions": {}, "acceptance": []}
    report.CONSOLE.print(report.table("", report.machine_cells(result["machine"])))
    for question in questions:
        started = time.perf_counter()
        rows = question.run(size, arguments.rounds)
        answer = report.question_json(question, rows)
        answer["seconds"] = round(time.perf_counter() - started)
        title = f"{question.name}: {question.title} ({answer['seconds']} s)"
        report.CONSOLE.print(report.table(title, report.question_cells(rows)))
        report.CONSOLE.print(*answer["summary"], "", sep="\n", markup=False, highlight=False, soft_wrap=True)
        result["questions"][question.name] = answer
        result["acceptance"] = acceptance.evaluate(result)
        # After each question, so that what was measured is kept if a later one fails.
        if arguments.json:
            arguments.json.write_text(report.dumps(result), encoding="utf-8")
        if arguments.plots:
            arguments.plots.mkdir(parents=True, exist_ok=True)
            report.save_plot(question, rows, arguments.plots / f"{question.name}.png")
    report.CONSOLE.print(report.table("What was to be shown", report.acceptance_cells(result["acceptance"])))


if __name__ == "__main__":
    main()
