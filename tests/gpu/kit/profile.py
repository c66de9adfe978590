"""The part that asks ncu for the share of the memory's bandwidth and the occupancy of some kernels."""

from __future__ import annotations

import csv
import io
import subprocess
import sys

from tests.gpu.kit.part import Part, find_tool

METRICS = {
    "dram__throughput.avg.pct_of_peak_sustained_elapsed": "share of DRAM bandwidth, %",
    "sm__warps_active.avg.pct_of_peak_sustained_active": "occupancy, %",
    "gpu__time_duration.sum": "time",
}
NUMBERS, ZEROS = "numbers", "zeros"
KERNELS = [
    ("sgd", "float32", NUMBERS),
    ("adam", "float32", NUMBERS),
    ("adam", "float64", NUMBERS),
    ("adam", "float16", NUMBERS),
    ("adam", "bfloat16", NUMBERS),
    ("adam", "bfloat16", ZEROS),
    ("lamb", "float32", NUMBERS),
    ("lamb", "float32", ZEROS),
    ("ftrl", "float32", NUMBERS),
    ("ftrl", "float32", ZEROS),
]
SIZE, SMALL_SIZE = 2**26, 100


def take_one(rule: str, dtype: str, of: str, size: int) -> None:
    """Three steps of one tensor: what ncu looks at."""
    from tests.gpu import driver_only

    driver_only.load_core()
    from tests.gpu.kit.steps import Steps
    from tests.support.cuda.cuda_driver import GpuMachine, open_library

    machine = GpuMachine(open_library())
    steps = Steps(machine, rule, dtype, [size], zeros=of == ZEROS)
    for i in range(3):
        steps.enqueue(i)
    steps.free()


def parse(text: str) -> list[dict]:
    """The last launch of each kernel, of the CSV that ncu prints, which has a line for each metric."""
    begin = text.find('"ID"')
    if begin < 0:
        raise ValueError(f"ncu printed no table: {text[-500:]}")
    found: dict[str, dict] = {}
    for line in csv.DictReader(io.StringIO(text[begin:])):
        name = METRICS.get(line["Metric Name"])
        if name:
            unit = f" ({line['Metric Unit']})" if name == "time" else ""
            row = found.setdefault(line["Kernel Name"], {"kernel": line["Kernel Name"]})
            row[name + unit] = float(line["Metric Value"].replace(",", ""))
    return list(found.values())


def main() -> None:
    part = Part()
    part.found["kernels"] = {}
    program = find_tool("ncu")
    if program is None:
        part.leave_out("ncu", "it is not on PATH, nor in /usr/local/cuda/bin")
        return
    for rule, dtype, of in KERNELS[:1] if part.small else KERNELS:
        what = f"{rule}, {dtype}, {of}"
        if part.seconds_left < 10:
            part.leave_out(what, "no time was left")
            continue
        size = SMALL_SIZE if part.small else SIZE
        command = [program, "--csv", "--metrics", ",".join(METRICS), sys.executable, "-m", "tests.gpu.kit.profile"]
        try:
            done = subprocess.run(
                [*command, "--take", rule, dtype, of, str(size)],
                capture_output=True,
                text=True,
                timeout=part.seconds_left,
            )
            if done.returncode:
                raise RuntimeError((done.stdout + done.stderr)[-500:])
            part.found["kernels"][what] = parse(done.stdout)
        except (subprocess.TimeoutExpired, RuntimeError, ValueError) as error:
            part.fail(what, error)
    part.write()


if __name__ == "__main__":
    if sys.argv[1] == "--take":
        take_one(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))
    else:
        main()
