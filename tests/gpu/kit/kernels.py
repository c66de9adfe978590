"""The part that takes every step of `driver_only` with every rule and dtype, until an error breaks the device; and some
steps 100 times from the same start, which must give the same bits."""

from __future__ import annotations

from tests.gpu import driver_only
from tests.gpu.kit.part import Part

REPEATED = ("adam", "lamb", "sgd", "ftrl")
SMALL = ("sizes", "out of place, rows", "clipnorm, many chunks")


def check_bits(machine, rule: str, dtype: str, times: int) -> None:
    """A step with norms, over several chunks and tensors: the order of its sums must not depend on chance."""
    from tests.support.cuda.kernel_cases import CHUNK
    from tests.support.kernel_step import draw

    arguments = draw(rule, dtype, (3 * CHUNK + 1, 5, CHUNK)).arguments()
    del arguments["step"]
    first = None
    with machine.step() as step:
        for i in range(times):
            found = {name: x.tobytes() for name, x in step.run(**arguments, options={"clipnorm": 0.5}).items()}
            first = first or found
            differ = [name for name in found if found[name] != first[name]]
            assert not differ, f"repeat {i} differs in {differ}"


def is_broken(machine) -> bool:
    """Whether an error stays: everything that this process asks of the device fails from then on."""
    from tests.support.cuda.cuda_driver import CudaError

    try:
        machine.synchronise()
    except CudaError:
        return True
    return False


def steps_of(small: bool):
    """Yields (name, function of a machine)."""
    from tests.support.cuda.kernel_cases import LARGE_CASES, MIXED_SIZES, Case, check
    from tests.support.kernel_step import DTYPES
    from tests.support.rules_in_numpy import RULES

    arguments = {"rules": ["adam", "lamb"], "dtypes": ["float32"], "names": SMALL} if small else {}
    yield from driver_only.all_steps(**arguments)
    for rule in REPEATED[:2] if small else REPEATED:
        for dtype in ["float32"] if small else DTYPES:
            times = 3 if small else 100
            yield (rule, dtype, f"{times} times"), lambda m, r=rule, d=dtype, n=times: check_bits(m, r, d, n)
    # Last, since they take longest.
    large = {} if small else LARGE_CASES | {"500 tensors, up to 25 million elements": Case(MIXED_SIZES)}
    for name, case in large.items():
        for rule in RULES:
            yield (rule, "float32", name), lambda m, r=rule, c=case: check(m, r, "float32", c)


def main() -> None:
    part = Part()
    from tests.support.cuda.cuda_driver import GpuMachine, open_library

    machine = GpuMachine(open_library())
    table: dict[str, dict] = {}
    part.found["steps"] = table
    for name, take in steps_of(part.small):
        if part.seconds_left < 0:
            part.leave_out("the steps from " + ", ".join(name), "no time was left")
            break
        row = table.setdefault(f"{name[0]}, {name[1]}", {"steps": 0, "failed": 0, "ulp": 0.0})
        row["steps"] += 1
        try:
            row["ulp"] = max(row["ulp"], float(take(machine) or 0.0))
        except Exception as error:
            row["failed"] += 1
            part.fail(", ".join(name), error)
            if is_broken(machine):
                part.leave_out("the steps after " + ", ".join(name), "the device is broken for this process")
                break
    else:
        if not part.small:
            try:
                why = driver_only.past_2_31(machine)
                part.found["more than 2^31 elements"] = why or "agrees"
            except (AssertionError, RuntimeError) as error:
                part.fail("more than 2^31 elements", error)
    part.found["largest_ulp"] = max((row["ulp"] for row in table.values()), default=0.0)
    part.write()


if __name__ == "__main__":
    main()
