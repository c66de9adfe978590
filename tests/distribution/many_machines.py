"""The tables of docs/explanation/many_machines.md: `python -m tests.distribution.many_machines` fills them in, by the
cost model and from what benchmarks measured, docs/replicas.json."""

from __future__ import annotations

import json
import math
import pathlib

from benchmarks.shapes import bert_base
from tests.support.cuda.page import filled, table

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "docs/explanation/many_machines.md"
MEASURED = ROOT / "docs/replicas.json"
WORKERS = (2, 4, 8, 16, 64, 256, 1024)
# Bytes a second in each direction, and seconds a message takes: assumptions, which the page names.
LINKS = {"25 Gb/s": (25e9 / 8, 30e-6), "200 Gb/s": (200e9 / 8, 5e-6)}
# Bytes a second of the memory of a device.
MEMORY = 2e12
# What Adam reads and writes of a parameter in float32: it and two slots twice, the gradient once.
ADAM_PASSES = 7
BERT = 4 * sum(math.prod(shape) for shape in bert_base())


def sent(num_bytes: float, workers: int) -> float:
    """What each worker sends in an all-reduce over a ring, or in a reduce-scatter and an all-gather."""
    return 2 * (workers - 1) / workers * num_bytes


def ring(num_bytes: float, workers: int, bandwidth: float, latency: float) -> float:
    """Seconds of an all-reduce over a ring (Patarasuk and Yuan 2009)."""
    return 2 * (workers - 1) * latency + sent(num_bytes, workers) / bandwidth


def tree(num_bytes: float, workers: int, bandwidth: float, latency: float) -> float:
    """Seconds of an all-reduce over two pipelined binary trees (Sanders, Speck and Träff 2009)."""
    return 2 * math.ceil(math.log2(workers)) * latency + 2 * num_bytes / bandwidth


def update(num_bytes: float) -> float:
    """Seconds of Adam's update, which is bound by memory."""
    return ADAM_PASSES * num_bytes / MEMORY


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}"


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.2g}%"


def _sums() -> str:
    head = ["workers", "each sends, MB"]
    head += [f"{shape}, {link}, ms" for link in LINKS for shape in ("ring", "tree")]
    rows = []
    for n in WORKERS:
        times = [_ms(cost(BERT, n, *link)) for link in LINKS.values() for cost in (ring, tree)]
        rows.append([n, f"{sent(BERT, n) / 1e6:.0f}", *times])
    return table(head, rows)


def _updates() -> str:
    head = ["workers", "update, ms", *(f"its share, {link}" for link in LINKS), "in parts, ms"]
    head += [*(f"its share, {link}" for link in LINKS), "slots a worker in parts, MB"]
    rows = []
    for n in WORKERS:
        sums = [min(ring(BERT, n, *link), tree(BERT, n, *link)) for link in LINKS.values()]
        whole, part = update(BERT), update(BERT) / n
        row = [n, _ms(whole), *(_percent(whole, whole + s) for s in sums)]
        rows.append([*row, _ms(part), *(_percent(part, part + s) for s in sums), f"{2 * BERT / n / 1e6:.0f}"])
    return table(head, rows)


def _line(measured: dict) -> tuple[float, float]:
    """Seconds of the smallest sum, and bytes a second beyond, through the smallest and the largest."""
    rows = sorted(measured.values(), key=lambda row: row["bytes"])
    first, last = rows[0], rows[-1]
    slope = (last["the sum alone"] - first["the sum alone"]) / 1e3 / (last["bytes"] - first["bytes"])
    return first["the sum alone"] / 1e3 - slope * first["bytes"], 1 / slope


def _loopback(measured: dict) -> str:
    fixed, bandwidth = _line(measured)
    head = ["variables", "bytes", "the sum alone, ms", "by the line, ms", "fused step, ms", "update in it", "stock, ms"]
    rows = []
    for case, row in measured.items():
        total, alone, fused, stock = (row[key] for key in ("bytes", "the sum alone", "fused", "stock"))
        share = _percent(max(fused - alone, 0.0), fused)
        times = [f"{alone:.2f}", _ms(fixed + total / bandwidth), f"{fused:.2f}", share, f"{stock:.2f}"]
        rows.append([case, f"{total:,}", *times])
    return table(head, rows)


def _link(measured: dict) -> str:
    fixed, bandwidth = _line(measured)
    return (
        f"The line: {1e3 * fixed:.2f} ms, and {bandwidth / 1e9:.2f} GB/s beyond. With 2 workers each sends what it has "
        "once, so this is what loopback and two processes on two cores carry."
    )


def _memory(measured: dict) -> str:
    head = ["", "predicted a device, MB", "held a device, MB", "the process grew by, MB", "a step, ms"]
    rows = []
    for rival, row in measured.items():
        predicted, held = ([f"{n / 1e6:.0f}" for n in row[key]] for key in ("predicted", "held"))
        rows.append([rival, ", ".join(predicted), ", ".join(held), f"{row['grown'] / 1e6:.0f}", f"{row['ms']:.0f}"])
    return table(head, rows)


def fill(text: str) -> str:
    """The page with its tables."""
    measured = json.loads(MEASURED.read_text(encoding="utf-8"))
    return filled(
        text,
        {
            "sums": _sums,
            "updates": _updates,
            "loopback": lambda: _loopback(measured["loopback"]),
            "link": lambda: _link(measured["loopback"]),
            "slot memory": lambda: _memory(measured["slot memory"]),
        },
    )


if __name__ == "__main__":
    PAGE.write_text(fill(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
