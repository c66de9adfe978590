"""Runs the parts; see the package."""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[3]
# In the order in which they tell most; how many seconds each may take.
PARTS = {"kernels": 540, "sanitizers": 540, "times": 540, "profile": 300}


def run_part(name: str, seconds: float, arguments: list[str]) -> dict:
    """What a part found, with how it ended."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "part.json"
        command = [sys.executable, "-m", f"tests.gpu.kit.{name}", str(out), "--seconds", str(seconds), *arguments]
        started = time.monotonic()
        try:
            # The part has the seconds; the process some more, to write down what it has.
            done = subprocess.run(command, cwd=ROOT, timeout=1.2 * seconds + 30, capture_output=True, text=True)
            ended, said = f"exit status {done.returncode}", done.stdout + done.stderr
        except subprocess.TimeoutExpired as expired:
            parts = [x.decode() if isinstance(x, bytes) else x or "" for x in (expired.stdout, expired.stderr)]
            ended, said = "out of time", "".join(parts)
        found = json.loads(out.read_text()) if out.exists() else {}
    failed = bool(found.get("failures")) or ended != "exit status 0"
    found |= {"failed": failed, "ended": ended, "took_s": round(time.monotonic() - started, 1)}
    if failed:
        found["said"] = said[-4000:]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.kit")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("kit.json"))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seconds", type=float, help="the limit of each part instead of its own")
    parser.add_argument("--small", action="store_true", help="few and small cases, to see that all of it runs")
    options = parser.parse_args()
    from tests.gpu import driver_only

    driver_only.load_core()
    from tests.support.cuda import cuda_driver

    try:
        device = cuda_driver.GpuMachine(cuda_driver.open_library()).describe()
    except (OSError, cuda_driver.CudaError) as error:
        print(f"no GPU: nothing was done ({error})")
        return 2
    result = {"device": device, "small": options.small, "parts": {}}
    for name in options.parts:
        part = run_part(name, options.seconds or PARTS[name], ["--small"] if options.small else [])
        result["parts"][name] = part
        # After each part: what is on disk stays, whatever the next one does.
        options.out.write_text(json.dumps(result, indent=1) + "\n")
        print(f"{name}: {'FAILED' if part['failed'] else 'done'}, {part['ended']}, {part['took_s']} s", flush=True)
    return int(any(part["failed"] for part in result["parts"].values()))


if __name__ == "__main__":
    sys.exit(main())
