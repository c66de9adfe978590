"""Plots that questions share. Each draws rows on a matplotlib figure.

A figure answers one question, so it has few series: of the rivals of one library the fastest stands for it. A library
has the same color everywhere, of the palette of Okabe and Ito, which color-blind people can tell apart, and its name
stands beside its line.
"""

import math
import re

from benchmarks.timing import cases

_OTHER = "#777777"
# By how the name of a rival begins: what it is called in figures, None for what is in tables only, and its color. The
# first that fits counts.
_LIBRARIES = (
    ("fusemin, kernel, one thread", "fusemin, one thread", "#56B4E9"),
    ("fusemin, kernel", None, _OTHER),
    ("fusemin", "fusemin", "#0072B2"),
    ("fused", "fusemin", "#0072B2"),
    ("GradientTape loop, fuse", "own loop, fuse", "#56B4E9"),
    ("GradientTape", "own loop", "#CC79A7"),
    ("tfp", "TFP", "#E69F00"),
    ("stock", "stock", "#E69F00"),
    ("torch, fused, kernel alone", None, _OTHER),
    ("torch", "torch", "#D55E00"),
    ("jax", "jax", "#009E73"),
    ("loss and gradient", "loss and gradient alone", _OTHER),
    ("copy", "copy of memory", _OTHER),
)


def _library(rival: str):
    """Name and color."""
    for beginning, name, its_color in _LIBRARIES:
        if rival.startswith(beginning):
            threads = re.search(r", \d+ threads?$", rival)
            return (f"{name}{threads[0]}" if name and threads else name), its_color
    return rival, _OTHER


def color(rival: str) -> str:
    """Of a rival's library."""
    return _library(rival)[1]


def best_of_libraries(rows) -> dict:
    """The row with the smallest median of each library, in the order of the rows."""
    best = {}
    for row in rows:
        name, _ = _library(row.rival)
        if name is not None and (name not in best or row.median < best[name].median):
            best[name] = row
    return best


def readable(value: float) -> str:
    """A number as people read it: 0.02, 1, 20, 1,000, 100k, 4M."""
    if value >= 1e6:
        return f"{value / 1e6:.3g}M"
    if value >= 1e4:
        return f"{value / 1e3:.3g}k"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def logarithmic_axis(axis) -> None:
    """Ticks at powers of ten, or at 1, 2 and 5 where these are few, as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = sorted(axis.get_view_interval())
    axis.set_major_locator(LogLocator(subs=(1.0,) if high > 50 * low else (1.0, 2.0, 5.0), numticks=12))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: readable(value)))


def bars(figure, rows, label, scale=1.0, columns=3, only=lambda row: True):
    """A panel of horizontal bars for each case, the fastest first, whiskers between the quartiles.

    Args:
      label: of the axis.
      scale: what values are multiplied with.
      columns: of panels.
      only: function of a row, whether it is drawn.
    """
    by_case = {case: best_of_libraries(here) for case, here in cases([row for row in rows if only(row)]).items()}
    columns = min(columns, len(by_case))
    panel_lines = -(-len(by_case) // columns)
    figure.set_size_inches(4.2 * columns, (0.9 + 0.3 * max(map(len, by_case.values()))) * panel_lines + 0.5)
    panels = figure.subplots(panel_lines, columns, squeeze=False).ravel()
    for axes, (case, best) in zip(panels, by_case.items(), strict=False):
        names = sorted(best, key=lambda name: best[name].median)
        here = [best[name] for name in names]
        values = [scale * row.median for row in here]
        ends = [[scale * q for q in row.quartiles] for row in here]
        axes.barh(names, values, xerr=_whiskers(values, ends), color=[color(row.rival) for row in here], height=0.7)
        for i, (value, (_, end)) in enumerate(zip(values, ends, strict=True)):
            place = {"textcoords": "offset points", "fontsize": 9, "va": "center"}
            axes.annotate(readable(value), (max(value, end), i), (4, 0), **place)
        axes.set_xlim(0, 1.25 * max(end for _, end in ends))
        axes.set_xticks([])
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        axes.tick_params(left=False, labelsize=9)
        axes.set_title(f"{case}, {label}", fontsize=10, loc="left")
        axes.invert_yaxis()
    for axes in panels[len(by_case) :]:
        axes.set_visible(False)


def lines(figure, rows, x, label, value=lambda row, sample: sample, logarithmic=False, panel=lambda row: ""):
    """A line for each library over the rows' note "x", with whiskers between the quartiles.

    Only points that were measured one beside the other are joined. What was measured at few places is in tables only.

    Args:
      x: label of the axis.
      label: of the other axis.
      value: function of a row and one of its samples, what is drawn.
      logarithmic: both axes.
      panel: function of a row, the title of the panel that it is drawn in, or None.
    """
    titles = [title for title in dict.fromkeys(panel(row) for row in rows) if title is not None]
    figure.set_size_inches(1 + 5.5 * len(titles), 4.5)
    for axes, title in zip(figure.subplots(1, len(titles), squeeze=False)[0], titles, strict=True):
        shown = [row for row in rows if panel(row) == title and "x" in row.notes]
        xs = sorted({row.notes["x"] for row in shown})
        by_x = {at: best_of_libraries([row for row in shown if row.notes["x"] == at]) for at in xs}
        ends = []
        for name in dict.fromkeys(name for here in by_x.values() for name in here):
            if 2 * sum(name in here for here in by_x.values()) > len(xs):
                ends.append((name, *_line(axes, [(at, here.get(name)) for at, here in by_x.items()], value)))
        axes.set_title(title, fontsize=11, loc="left")
        axes.set(xlabel=x, ylabel=label)
        axes.spines[["top", "right"]].set_visible(False)
        if logarithmic:
            axes.set(xscale="log", yscale="log")
            logarithmic_axis(axes.xaxis)
            logarithmic_axis(axes.yaxis)
        else:
            axes.set_ylim(bottom=0)
        _name_lines(axes, ends, logarithmic)


def _whiskers(values, ends):
    """Distances from values to their quartiles."""
    return [
        [max(0.0, value - low) for value, (low, _) in zip(values, ends, strict=True)],
        [max(0.0, high - value) for value, (_, high) in zip(values, ends, strict=True)],
    ]


def _line(axes, points, value):
    """Draws the points of a library; returns the height where the last one is, and the color."""
    joined, height, its_color = [], None, None
    for at, row in [*points, (None, None)]:
        if row is not None:
            joined.append((at, row))
            height, its_color = value(row, row.median), color(row.rival)
        elif joined:
            medians = [value(r, r.median) for _, r in joined]
            whiskers = _whiskers(medians, [sorted(value(r, q) for q in r.quartiles) for _, r in joined])
            style = {"marker": "o", "markersize": 4, "capsize": 2, "color": its_color}
            axes.errorbar([place for place, _ in joined], medians, whiskers, **style)
            joined = []
    return height, its_color


def _name_lines(axes, ends, logarithmic):
    """Writes the names to the right, apart from each other, in the order of the ends of the lines."""
    scale = math.log if logarithmic else float
    low, high = map(scale, axes.get_ylim())
    previous = -math.inf
    for name, end, its_color in sorted(ends, key=lambda end: end[1]):
        previous = max((scale(end) - low) / (high - low), previous + 0.06)
        place = {"xycoords": "axes fraction", "annotation_clip": False, "va": "center"}
        axes.annotate(name, (1.02, previous), color=its_color, fontsize=10, **place)
