"""What was measured on a GPU, as tables of docs/cuda.md: `python -m tests.gpu.kit.page` writes them anew.

They are made from docs/gpu: what `python -m tests.gpu.kit` and `python -m benchmarks.gpu` wrote there.
"""

from __future__ import annotations

import json
import pathlib
import statistics

from tests.support.cuda.page import PAGE, filled, table

DOCS = pathlib.Path(__file__).parents[3] / "docs"
COPY = "a copy of as many bytes"
TORCH = ("PyTorch, fused", "PyTorch, foreach")


def read(name: str) -> dict:
    return json.loads((DOCS / "gpu" / name).read_text(encoding="utf-8"))


def times_table() -> str:
    """Adam, by events of the device."""
    rows = []
    for case, row in read("kit.json")["parts"]["times"]["cases"].items():
        plain = row["median us"]
        graph = {rival: statistics.median(times) for rival, times in row["us in a graph"].items()}
        numbers = [plain["fusemin"], plain[COPY], graph["fusemin"], *(graph[rival] for rival in TORCH)]
        gigabytes = row["bytes"] / plain["fusemin"] / 1e3
        rows.append([case, *(f"{x:,.1f}" for x in numbers), f"{gigabytes:,.0f}"])
    head = ["Adam on tensors of", "fusemin, µs", f"{COPY}, µs", "fusemin in a graph, µs"]
    return table([*head, *(f"{rival}, in a graph, µs" for rival in TORCH), "fusemin, GB/s"], rows)


def kernels_table() -> str:
    """What ncu said of the last launch of some kernels."""
    rows = []
    for what, kernels in read("kit.json")["parts"]["profile"]["kernels"].items():
        for kernel in kernels:
            share, occupied = kernel["share of DRAM bandwidth, %"], kernel["occupancy, %"]
            rows.append([what, f"`{kernel['kernel']}`", f"{kernel['time (ns)'] / 1e3:.0f}", share, occupied])
    return table(["rule, dtype", "kernel", "µs", "of the DRAM's bandwidth, %", "occupancy, %"], rows)


def update_table() -> str:
    """The update within TensorFlow."""
    cases: dict[str, dict] = {}
    for row in read("update.json")["rows"]:
        cases.setdefault(row["case"].removeprefix("update, "), {})[row["rival"]] = row
    rows = []
    for case, rivals in cases.items():
        for family in ("keras Adam", "tf_keras legacy Adam"):
            fused, stock = rivals[f"fused, {family}"], rivals[f"stock, {family}"]
            times = [1e6 * statistics.median(x["samples"]) for x in (fused, stock)]
            rows.append([case, family, *(f"{x:,.0f}" for x in times), f"{fused['facts']['times stock']:.1f}"])
    return table(["update of", "optimizer", "fused, µs", "stock, µs", "times as fast"], rows)


def found() -> str:
    """A paragraph about the parts that look for errors."""
    kit = read("kit.json")
    kernels, sanitizers = kit["parts"]["kernels"], kit["parts"]["sanitizers"]
    steps = sum(row["steps"] for row in kernels["steps"].values())
    return (
        f"On one {kit['device']}, {kit['date']}: {steps:,} steps of all rules and dtypes were taken, "
        f"{len(kernels['failures'])} of them were further from the CPU kernels than the limits then were, all in "
        f"float64; more than 2^31 elements: {kernels['more than 2^31 elements']}; {len(sanitizers['clean'])} runs of "
        f"compute-sanitizer (memcheck, racecheck, initcheck) found nothing."
    )


PARTS = {
    "found on a GPU": found,
    "times on a GPU": times_table,
    "kernels on a GPU": kernels_table,
    "update on a GPU": update_table,
}


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), PARTS), encoding="utf-8")
