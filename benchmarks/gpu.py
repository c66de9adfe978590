"""`python -m benchmarks.gpu`: fused against stock on a GPU, the update alone and `minimize`, and the share of its
bandwidth.

"update" is the optimizer's update alone, with gradients that are given and stay the same, in a `tf.while_loop` of ten
updates an iteration: a loop carries what it captures from one iteration to the next, which takes longer than a small
update. Bytes of an update are those of parameter and slots read and written and of the gradient read; the bandwidth
that they are compared with is that of a copy on the same device in the same rounds, whose bytes count read and written.
A sample is the mean over the steps of a run and ends with a copy of one number to the host, which waits for the device.
Rounds are interleaved. Parameters are checked after the first run. "minimize" is a step of `minimize` of fusemin and of
TFP, with the trace of the loss, in the default mode and compiled by XLA, as `python -m benchmarks steps` measures them.

Without a GPU it says so and measures nothing; --cpu runs the same on the CPU device, to see that it works.
"""

import argparse
import functools
import importlib.util
import math
import os
import pathlib
import sys

from benchmarks import report
from benchmarks.problems import FIFTY, FOUR_MILLION, SCALAR, Quadratic
from benchmarks.timing import Row, cases, interleave, measure, median_ratio

NOTHING = "no GPU: nothing was measured"
COPY = "device copy"
OF_COPY = "of the copy's bandwidth"
FUSED = "fused, "
STOCK = "stock, "
# Name, shapes, steps in a run.
SMOKE_CASES = (("2 variables of 1,000", [(1_000,)] * 2, 10),)
SMOKE_ROUNDS, ROUNDS = 2, 9
LEARNING_RATE = 1e-6
AN_ITERATION = 10
ADAMS = ("keras Adam", "tf_keras legacy Adam")
# Of `minimize`: problems, the steps in a run, and the seconds of a sample.
MINIMIZED = {
    "smoke": ([(Quadratic("2 variables of 10", 2, (10,)), 10)], 0.0),
    "full": ([(FIFTY, 200), (SCALAR, 500), (FOUR_MILLION, 100)], 0.1),
}
# Of an element of float32: parameter and two slots read and written, the gradient read.
BYTES = 28


def _full_cases():
    from benchmarks.shapes import MODELS

    models = [(name, make(), 100) for name, make in MODELS.items()]
    plain = [(f"{n} variables of {size:,}", [(size,)] * n, 100) for n, size in ((1, 1000), (100, 1000), (1, 10**8))]
    return [*plain, *models]


def families():
    """The optimizers, by name."""
    import keras

    found = {"keras Adam": functools.partial(keras.optimizers.Adam, LEARNING_RATE)}
    if importlib.util.find_spec("tf_keras"):
        import tf_keras

        found["tf_keras legacy Adam"] = functools.partial(tf_keras.optimizers.legacy.Adam, LEARNING_RATE)
    return found


def _loop(body, num_steps):
    import tensorflow as tf

    @functools.partial(tf.function, autograph=False)
    def loop():
        def iteration(step):
            for _ in range(AN_ITERATION):
                body()
            return step + AN_ITERATION

        return tf.while_loop(lambda step: step < num_steps, iteration, [0], parallel_iterations=1)

    return loop


def _variables(shapes):
    import tensorflow as tf

    return [tf.Variable(tf.zeros(shape), name=f"x{i}") for i, shape in enumerate(shapes)]


def _built(make, variables):
    """An optimizer whose slots are there: they cannot be made in a loop of TensorFlow."""
    optimizer = make()
    if hasattr(optimizer, "build"):
        optimizer.build(variables)
    else:
        optimizer._create_all_weights(variables)
    return optimizer


def update_only(make, fused, shapes, num_steps):
    """A function that takes the steps with given gradients, and a variable that they move."""
    import tensorflow as tf

    from fusemin.update.fused_step import fused_step
    from fusemin.update.plan import plan

    variables = _variables(shapes)
    optimizer = _built(make, variables)
    gradients = [tf.fill(x.shape, 0.5 + i % 3) for i, x in enumerate(variables)]
    update = plan(optimizer, variables).bind() if fused else None

    def body():
        if fused:
            fused_step(update, gradients, tf.constant(0.0))
        else:
            optimizer.apply_gradients(zip(gradients, variables, strict=True))

    return _loop(body, num_steps), variables[-1]


def device_copy(num_elements, num_steps):
    """As many bytes as an update of so many elements reads and writes: half of them are copied, from a variable to a
    variable of the device."""
    import tensorflow as tf

    source, target = (tf.Variable(tf.fill([num_elements * BYTES // 8], value)) for value in (1.0, 2.0))

    def body():
        # Not `assign(source)`, which would share the buffer.
        target.assign(-source)

    return _loop(body, num_steps), target


def _wait(variable):
    """Waits for the device: one number comes to the host."""
    import tensorflow as tf

    return tf.reshape(variable, [-1])[0].numpy()


def prepare(name, build, num_steps):
    """Sets up and checks. Returns a function that takes a sample, of seconds a step."""
    run, variable = build()
    run()
    moved = _wait(variable)
    if name != COPY and abs(moved / (-LEARNING_RATE * num_steps) - 1) > 0.01:
        raise AssertionError(f"{name} is not Adam: {num_steps} steps moved a parameter by {moved}")

    def once():
        run()
        _wait(variable)

    return lambda: measure(once).wall / num_steps


def run_case(name, shapes, num_steps, rounds):
    """The rows of a case."""
    elements = sum(math.prod(shape) for shape in shapes)
    builds = {
        prefix + family: functools.partial(update_only, make, prefix == FUSED, shapes, num_steps)
        for family, make in families().items()
        for prefix in (FUSED, STOCK)
    }
    builds[COPY] = functools.partial(device_copy, elements, num_steps)
    samplers = {rival: prepare(rival, make, num_steps) for rival, make in builds.items()}
    samples = interleave(samplers, rounds)
    here = {rival: Row(f"update, {name}", rival, "s", s) for rival, s in samples.items()}
    for rival, row in here.items():
        row.facts["GB/s"] = BYTES * elements / row.median / 1e9
        row.facts[OF_COPY] = median_ratio(here[COPY], row)
        if rival.startswith(FUSED):
            row.facts["times stock"] = median_ratio(here[STOCK + rival.removeprefix(FUSED)], row)
    return list(here.values())


def all_rows(size, rounds):
    """Lists of rows, each when it is measured."""
    for name, shapes, num_steps in SMOKE_CASES if size == "smoke" else _full_cases():
        report.progress(name)
        yield run_case(name, shapes, num_steps, rounds)
    yield from minimize_rows(size, rounds)


def minimize_rows(size, rounds):
    """The rows of `minimize`, problem by problem."""
    from benchmarks import race
    from benchmarks.rivals import rivals_for

    problems, seconds = MINIMIZED[size]
    names = {f"{by}, {adam}{mode}" for by in ("tfp", "fusemin") for adam in ADAMS for mode in ("", ", jit")}
    for problem, num_steps in problems:
        rows = race.race("minimize", problem, rivals_for(problem, names), num_steps, seconds, rounds)
        for mode in ("", ", jit"):
            of_mode = [row for row in rows if row.rival.endswith(", jit") == bool(mode)]
            race.compare(of_mode, f"stock{mode}", "times stock")
        for row in rows:
            row.case = f"minimize, {problem.name}"
        yield rows


def summary(rows):
    """A line for each fused row."""
    lines = []
    for case, here in cases(rows).items():
        for row in here if case.startswith("minimize") else []:
            if row.rival.startswith("fusemin"):
                lines.append(f"{case}: {row.rival} is {row.facts['times stock']:.2f} times as fast as the fastest TFP")
        for row in here:
            if row.rival.startswith(FUSED):
                beside = f"{row.facts[OF_COPY]:.2f} of the bandwidth of a copy"
                lines.append(f"{case}: {row.rival} is {row.facts['times stock']:.2f} times as fast as stock, {beside}")
    return lines


def _describe(device):
    import tensorflow as tf

    from benchmarks import machine

    kind = device.split(":")[0]
    physical = tf.config.list_physical_devices(kind)[0]
    details = tf.config.experimental.get_device_details(physical) if kind == "GPU" else {}
    named = {"device": details.get("device_name", device)}
    if "compute_capability" in details:
        named["compute capability"] = ".".join(map(str, details["compute_capability"]))
    return {**named, **machine.describe()}


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to see that all of it runs")
    parser.add_argument("--rounds", type=int, metavar="N")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write all figures and the machine to FILE")
    parser.add_argument("--cpu", action="store_true", help="on the CPU device: no figure of it is one of a GPU")
    options = parser.parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    if not options.cpu and not tf.config.list_physical_devices("GPU"):
        print(NOTHING)
        return 0
    device = "CPU:0" if options.cpu else "GPU:0"
    described = _describe(device)
    report.CONSOLE.print(report.table("", report.machine_cells(described)))
    rows = []
    rounds = options.rounds or (SMOKE_ROUNDS if options.smoke else ROUNDS)
    with tf.device(device):
        for more in all_rows("smoke" if options.smoke else "full", rounds):
            rows += more
            result = {
                "machine": described,
                "device": device,
                "size": "smoke" if options.smoke else "full",
                "method": __doc__,
                "summary": summary(rows),
                "rows": report.rows_json(rows),
            }
            if options.json:
                options.json.write_text(report.dumps(result), encoding="utf-8")
    report.CONSOLE.print(report.table(f"On {device}", report.question_cells(rows)))
    report.CONSOLE.print(*summary(rows), "", sep="\n", markup=False, highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
