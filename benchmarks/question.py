"""What a question is, and how one is put to fresh processes."""

import concurrent.futures
import dataclasses
import multiprocessing
from collections.abc import Callable

from benchmarks.timing import Row


@dataclasses.dataclass(frozen=True)
class Question:
    """A question that a comparison answers.

    Attributes:
      name: on the command line.
      title: the question in words.
      method: how it is answered.
      run: function of the size ("smoke" or "full") and of the number of rounds (None: as the size says), returns the
        rows.
      summarize: function of the rows, returns the answer in lines of text.
      plot: function of a matplotlib figure and of the rows, draws them.
    """

    name: str
    title: str
    method: str
    run: Callable[[str, int | None], list[Row]]
    summarize: Callable[[list[Row]], list[str]]
    plot: Callable


def fresh_process(initializer=None, *arguments) -> concurrent.futures.ProcessPoolExecutor:
    """A new Python process that calls what is submitted, one after another, once it has called the initializer."""
    context = multiprocessing.get_context("spawn")
    return concurrent.futures.ProcessPoolExecutor(1, context, initializer, arguments)


def in_fresh_process(function, *arguments):
    """Calls a function of a module in a new Python process and returns its value: for memory, which processes keep."""
    with fresh_process() as process:
        return process.submit(function, *arguments).result()
