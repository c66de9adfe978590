"""Writes the table of counts in docs/cuda.md anew: `python -m tests.gpu_device --table`."""

from __future__ import annotations

from tests.gpu_device.counting import of_fusemin, of_stock
from tests.gpu_device.stand_in import Counts, Kernels
from tests.support.cuda.page import PAGE, filled, part_of

PLACE = "counts table"
HEAD = (
    "| a step of | variables | kernels | of them in a graph | launches | copies to or from the host | "
    "synchronisations |\n"
)
NUMBERS = (20, 50)
FUSEMIN = {
    "fusemin, default": False,
    'fusemin, `jit_compile="loss"`': "loss",
    "fusemin, `jit_compile=True`": True,
}
STOCK = {"TFP with Keras, default": False, "TFP with Keras, `jit_compile=True`": True}


def row(name: str, num_variables: int, counts: Counts) -> str:
    in_graphs = counts["kernel in a graph"]
    launches = counts.kernels - in_graphs + counts["cuGraphLaunch"]
    numbers = (counts.kernels, in_graphs, launches, counts.host_copies, counts.synchronisations)
    return "| " + " | ".join([name, str(num_variables), *(f"{n:.0f}" for n in numbers)]) + " |\n"


def rows_of_fusemin(num_variables: int) -> list[str]:
    return [row(name, num_variables, of_fusemin(num_variables, way)) for name, way in FUSEMIN.items()]


def in_page() -> str:
    """The table as the page has it."""
    return part_of(PAGE.read_text(encoding="utf-8"), PLACE) + "\n"


def main() -> None:
    Kernels(interprets=False).install()
    lines = []
    for number in NUMBERS:
        lines += [row(name, number, of_stock(number, way)) for name, way in STOCK.items()]
        lines += rows_of_fusemin(number)
    table = HEAD + "|" + " --- |" * (HEAD.count("|") - 1) + "\n" + "".join(lines)
    text = filled(PAGE.read_text(encoding="utf-8"), {PLACE: lambda: table.rstrip("\n")})
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
