"""What the project set out to show, beside what was measured. For information: no run fails by it.

Each line compares two rows of the same case of a question: the median over the rounds of the ratio of their times, with
its quartiles. The fastest of several rivals is the one with the smallest median of the case. Where nothing else
is said fusemin is `minimize` with `keras.optimizers.Adam`; compiled, beside stock TFP, with the same Adam as that.
"""

import dataclasses
import statistics
from collections.abc import Callable, Iterator

from benchmarks import problems, report
from benchmarks.timing import Row, cases, fastest, quartiles, ratios

OURS, OURS_JIT = "fusemin, keras Adam", "fusemin, keras Adam, jit"
MODEL_LOSS_SECONDS = 50e-6


@dataclasses.dataclass(frozen=True)
class Line:
    """Something to be shown.

    Attributes:
      issue: where it is asked for.
      what: in words.
      limit: of the ratio.
      question: whose rows are compared.
      pair: function of the rows of a case, returns (numerator, denominator), or None where the line does not apply.
      at_least: whether the ratio must be at least the limit, or at most.
      only: names of the cases; None for all.
    """

    issue: str
    what: str
    limit: float
    question: str
    pair: Callable[[list[Row]], tuple[Row, Row] | None]
    at_least: bool = True
    only: tuple[str, ...] | None = None

    def evaluate(self, rows: list[Row]) -> Iterator[dict]:
        for case, here in cases(rows).items():
            pair = self.pair(here) if self.only is None or case in self.only else None
            if pair is None or None in pair:
                continue
            measured = ratios(*pair)
            # As it is shown: a line that prints its limit meets it.
            median = float(f"{statistics.median(measured):.4g}")
            yield {
                "issue": self.issue,
                "question": self.question,
                "what": self.what,
                "case": case,
                "measured": median,
                "quartiles": [float(f"{q:.4g}") for q in quartiles(measured)],
                "limit": self.limit,
                "at_least": self.at_least,
                "met": median >= self.limit if self.at_least else median <= self.limit,
                "compared": [row.rival for row in pair],
            }


def _named(name) -> Callable[[list[Row]], Row | None]:
    return lambda rows: next((row for row in rows if row.rival == name), None)


def _of_group(group) -> Callable[[list[Row]], Row | None]:
    return lambda rows: fastest(rows, group=group)


def _times_as_fast(rival, ours):
    return lambda rows: (rival(rows), ours(rows))


def _time_of(ours, rival):
    return lambda rows: (ours(rows), rival(rows))


def _small_model(rows):
    alone = _named("loss and gradient alone")(rows)
    if alone is None or alone.median >= MODEL_LOSS_SECONDS:
        return None
    return _of_group("stock")(rows), _named(OURS)(rows)


def _elements(*powers):
    return tuple(f"{10**power:,} elements" for power in powers)


def _like_fastest_stock(rows):
    """fusemin compiled, with the Adam of the fastest stock TFP."""
    stock = _STOCK_JIT(rows)
    if stock is None:
        return None
    return next(
        (r for r in rows if r.notes["group"] == "fusemin, jit" and r.notes["family"] == stock.notes["family"]), None
    )


_STOCK, _STOCK_JIT = _of_group("stock"), _of_group("stock, jit")
_JAX = _of_group("other, jit")
_OP, _COPY, _TORCH = map(_named, ("fusemin, op", "copy", "torch, fused"))
_XLA_RIVALS = (
    ("the fastest stock TFP", _STOCK_JIT, _like_fastest_stock),
    ("jax + optax", _JAX, _named(OURS_JIT)),
)
_XLA_LARGE = (problems.FOUR_MILLION.name, problems.TWO_HUNDRED.name)


def _default(what, limit, problem, rival=_STOCK):
    pair = _times_as_fast(rival, _named(OURS))
    return Line("6", f"default mode: times {what}", limit, "steps", pair, only=(problem.name,))


def _copy_line(limit, sizes):
    pair = _times_as_fast(_COPY, _OP)
    return Line("6", "update alone: times the bandwidth of a copy", limit, "update", pair, only=sizes)


def _torch_line(limit, sizes):
    return Line("6", "update alone: times torch fused", limit, "update", _times_as_fast(_TORCH, _OP), only=sizes)


def _no_slower(question, what):
    pair = _times_as_fast(_STOCK, _named(OURS))
    return Line("6", f"{what}, none slower: times the fastest stock TFP", 1.0, question, pair)


LINES = [
    _copy_line(0.9, _elements(7, 8)),
    _torch_line(2.0, _elements(4, 5, 6)),
    _torch_line(1.0, _elements(7, 8)),
    _default("the fastest stock TFP", 4.0, problems.SCALAR),
    _default("the fastest stock TFP", 6.0, problems.FIFTY),
    _default("the fastest stock TFP", 1.1, problems.FOUR_MILLION),
    _default("TFP with Keras 3", 1.7, problems.FOUR_MILLION, _named("tfp, keras Adam")),
    _no_slower("steps", "default mode"),
    Line("6", "models whose loss is under 50 µs: times the fastest stock TFP", 2.0, "models", _small_model),
    _no_slower("models", "models"),
    Line("6", "model.fit: times stock", 1.0, "fit", _times_as_fast(_named("stock Adam"), _named("fused Adam"))),
    *(
        Line("6", f"first call, {family} Adam: part of TFP's time", 0.5, "first_call",
             _time_of(_named(f"fusemin, {family} Adam"), _named(f"tfp, {family} Adam")), at_least=False)
        for family in ("keras", "tf_keras legacy")
    ),
    *(
        Line("4", f"XLA: part of the time of {name}", 1.05, "xla", _time_of(ours, rival), at_least=False)
        for name, rival, ours in _XLA_RIVALS
    ),
    *(
        Line("4", f"XLA, large: times {name}", 1.3, "xla", _times_as_fast(rival, ours), only=_XLA_LARGE)
        for name, rival, ours in _XLA_RIVALS
    ),
    Line("4", "XLA, first call: part of TFP's time", 0.5, "first_call",
         _time_of(_named(OURS_JIT), _named("tfp, keras Adam, jit")), at_least=False,
         only=(problems.FIFTY.name, problems.TWO_HUNDRED.name)),
    Line("4", "XLA, early exit at step 35: part of the time of 50 steps", 1.0, "xla",
         lambda rows: (rows[1], rows[0]) if rows[0].notes["group"] == "early exit" else None, at_least=False),
    Line("14", "a watched run: part of the steps per second of a bare call", 0.98, "runs",
         _times_as_fast(_named("bare"), _named("watched"))),
]  # fmt: skip


def evaluate(result: dict) -> list[dict]:
    """The lines whose questions are in a result as `python -m benchmarks --json` writes it, a dict for each case."""
    rows = {name: report.rows_of(question) for name, question in result["questions"].items()}
    return [found for line in LINES if line.question in rows for found in line.evaluate(rows[line.question])]
