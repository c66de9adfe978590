"""`python -m benchmarks.overview RESULTS.json FIGURE.png`: what a user gains, in one figure."""

import argparse
import json
import pathlib

from benchmarks import plots, report
from benchmarks.timing import cases, fastest

# Question, group of stock, group of fusemin, and the title of a panel.
PANELS = (
    ("steps", "stock", "fusemin", "default mode"),
    ("xla", "stock, jit", "fusemin, jit", "jit_compile=True"),
)


def draw(figure, result: dict) -> None:
    """Steps a second of fusemin and of the fastest stock optimizer of TFP, for the workloads that both panels have."""
    rows = {name: cases(report.rows_of(result["questions"][name])) for name, *_ in PANELS}
    has_eager = False
    shared = [case for case in rows["xla"] if case in rows["steps"]]
    for axes, (question, stock, ours, title) in zip(figure.subplots(1, 2, sharey=True), PANELS, strict=True):
        for i, case in enumerate(shared):
            theirs, mine = (fastest(rows[question][case], group=group) for group in (stock, ours))
            axes.plot([1 / theirs.median, 1 / mine.median], [i, i], color="#BBBBBB", zorder=0)
            for row in (theirs, mine):
                axes.scatter(1 / row.median, i, s=60, color=plots.color(row.rival))
            eager = fastest(rows[question][case], group=f"{stock}, eager")
            if eager is not None:
                has_eager = True
                axes.scatter(1 / eager.median, i, s=60, facecolor="white", edgecolor=plots.color(eager.rival))
            times = f"{theirs.median / mine.median:.1f} times"
            place = {"textcoords": "offset points", "fontsize": 9, "va": "center"}
            axes.annotate(times, (max(1 / theirs.median, 1 / mine.median), i), (8, 0), **place)
        axes.set(xscale="log", xlabel="steps a second")
        axes.set_title(title, fontsize=11, loc="left")
        low, high = axes.get_xlim()
        axes.set_xlim(low / 2, 8 * high)
        plots.logarithmic_axis(axes.xaxis)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_yticks(range(len(shared)), shared)
    axes.set_ylim(len(shared) - 0.5, -0.5)
    legend = [("fusemin", "fusemin", 0.24), ("TFP", "tfp", 0.14)]
    if has_eager:
        legend.append(("hollow: TFP, eager", "tfp", 0.04))
    for name, rival, height in legend:
        axes.annotate(name, (0.98, height), xycoords="axes fraction", ha="right", color=plots.color(rival), fontsize=11)


def main():
    from matplotlib.figure import Figure

    parser = argparse.ArgumentParser(prog="python -m benchmarks.overview", description=__doc__.splitlines()[0])
    parser.add_argument("results", type=pathlib.Path, help="what `python -m benchmarks --json` wrote")
    parser.add_argument("figure", type=pathlib.Path)
    arguments = parser.parse_args()
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    draw(figure, json.loads(arguments.results.read_text(encoding="utf-8")))
    figure.savefig(arguments.figure, dpi=110)


if __name__ == "__main__":
    main()
