"""Plots that questions share. Each draws rows on a matplotlib figure."""

from benchmarks.timing import cases


def color(rival: str) -> str:
    """Of a rival's library."""
    library = rival.split(",")[0].split(" ")[0]
    colors = {
        "fusemin": "tab:blue",
        "tfp": "tab:orange",
        "torch": "tab:red",
        "jax": "tab:green",
        "GradientTape": "tab:purple",
        "fused": "tab:blue",
        "stock": "tab:orange",
    }
    return colors.get(library, "tab:gray")


def _whiskers(rows, scale):
    """Distances from the median to the quartiles."""
    return [
        [scale * (r.median - r.quartiles[0]) for r in rows],
        [scale * (r.quartiles[1] - r.median) for r in rows],
    ]


def bars(figure, rows, label, scale=1.0, columns=3):
    """A panel of horizontal bars for each case, whiskers between the quartiles; the axis is logarithmic where the
    values are of several orders of magnitude."""
    by_case = cases(rows)
    columns = min(columns, len(by_case))
    lines = -(-len(by_case) // columns)
    most = max(map(len, by_case.values()))
    figure.set_size_inches(5.5 * columns, (1.0 + 0.26 * most) * lines + 0.5)
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, (case, here) in zip(panels, by_case.items(), strict=False):
        values = [scale * row.median for row in here]
        names = [row.rival for row in here]
        axes.barh(names, values, xerr=_whiskers(here, scale), color=[color(name) for name in names])
        for i, value in enumerate(values):
            text = f" {value:,.0f}" if value >= 100 else f" {value:.3g}"
            axes.annotate(text, (value, i), (0, 3), textcoords="offset points", fontsize=7)
        axes.margins(x=0.2)
        axes.tick_params(labelsize=7)
        far_apart = max(values) > 30 * min(values)
        axes.set(xlabel=label, xscale="log" if far_apart else "linear")
        axes.set_title(case, fontsize=9)
        axes.invert_yaxis()
    for axes in panels[len(by_case) :]:
        axes.set_visible(False)


_STYLES = [(marker, style) for style in ("-", "--", ":") for marker in "os^v"]


def lines(figure, rows, x, label, value=lambda row, sample: sample, logarithmic=False, panel=lambda row: ""):
    """A line for each rival over the rows' note "x", with whiskers between the quartiles.

    Args:
      x, label: of the axes.
      value: function of a row and one of its samples, what is drawn.
      logarithmic: both axes.
      panel: function of a row, the title of the panel that it is drawn in, or None.
    """
    titles = [title for title in dict.fromkeys(panel(row) for row in rows) if title is not None]
    figure.set_size_inches(3 + 6 * len(titles), 5)
    styles = {}
    for axes, title in zip(figure.subplots(1, len(titles), squeeze=False)[0], titles, strict=True):
        shown = [row for row in rows if panel(row) == title and "x" in row.notes]
        for rival in dict.fromkeys(row.rival for row in shown):
            marker, style = styles.setdefault(rival, _STYLES[len(styles) % len(_STYLES)])
            here = sorted((row for row in shown if row.rival == rival), key=lambda row: row.notes["x"])
            medians = [value(row, row.median) for row in here]
            ends = [sorted(value(row, q) for q in row.quartiles) for row in here]
            whiskers = [
                [max(0.0, m - low) for m, (low, _) in zip(medians, ends, strict=True)],
                [max(0.0, high - m) for m, (_, high) in zip(medians, ends, strict=True)],
            ]
            xs = [row.notes["x"] for row in here]
            axes.errorbar(
                xs, medians, whiskers, marker=marker, linestyle=style, capsize=2, color=color(rival), label=rival
            )
        axes.set(title=title, xlabel=x, ylabel=label)
        if logarithmic:
            axes.set(xscale="log", yscale="log")
        else:
            axes.set_ylim(bottom=0)
        axes.legend(fontsize=7)
