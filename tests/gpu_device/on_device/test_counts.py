"""What a step makes the driver do: launches, copies and synchronisations, and whether the update is in place."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import fusemin
from tests.gpu_device.counting import a_step, minimizer, of_stock, variables_on
from tests.gpu_device.counts_table import NUMBERS, in_page, rows_of_fusemin
from tests.gpu_device.stand_in import counted, failing

OUR_KERNELS = ("_plain", "_around", "sum_gradients", "fill_rows")
IN_PLACE = [("param_in", "param_out"), *((f"slot_in{k}", f"slot_out{k}") for k in range(2))]


def in_place(steps) -> bool:
    """Whether all these launches replace what they read."""
    return all(t.get(old) == t.get(new) for step in steps for t in step.tensors() for old, new in IN_PLACE)


@pytest.fixture(autouse=True)
def without_interpreting(kernels):
    kernels.interprets = False


def check_nothing_but(counts, num_fused):
    """A step launches this many of fusemin's kernels, copies nothing and waits for nothing."""
    assert counts.copied_bytes == 0, counts.of("cuMem")
    assert counts.synchronisations == 0, counts.of("cuStream", "cuEvent", "Synchronize")
    assert sum(counts.of(*OUR_KERNELS).values()) == num_fused, counts.of("kernel")


TRACES = {
    "loss": None,
    "parameters": lambda q: q.parameters,
    "everything": lambda q: (q.loss, q.gradients, q.parameters),
}


def check_the_default_loop(kernels, num_variables, trace):
    """One launch a step, in place, and nothing else."""
    with tf.device("GPU:0"):
        arguments = {} if TRACES[trace] is None else {"trace_fn": TRACES[trace]}
        variables = variables_on(["GPU:0"] * num_variables)
        counts = a_step(minimizer(variables, **arguments))
    assert in_place(kernels.steps()), "a step wrote to other memory than it read"
    check_nothing_but(counts, 1)


@pytest.mark.parametrize("trace", TRACES)
@pytest.mark.parametrize("num_variables", [1, 20, 50])
def test_the_default_loop(num_variables, trace, kernels):
    check_the_default_loop(kernels, num_variables, trace)


@pytest.mark.parametrize("num_variables", [1, 20])
def test_with_a_compiled_loss(num_variables, kernels):
    with tf.device("GPU:0"):
        counts = a_step(minimizer(variables_on(["GPU:0"] * num_variables), jit_compile="loss"))
    check_nothing_but(counts, 1)
    assert in_place(kernels.steps())


OPTIONS = {
    "clipvalue": (1, {"clipvalue": 1.0}),
    "clipnorm": (2, {"clipnorm": 1.0}),
    "global_clipnorm": (2, {"global_clipnorm": 1.0}),
    "weight_decay": (1, {"weight_decay": 0.1}),
    "use_ema": (1, {"use_ema": True}),
    "gradient_accumulation_steps": (1, {"gradient_accumulation_steps": 2}),
    "loss_scale_factor": (1, {"loss_scale_factor": 8.0}),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option(option, kernels):
    num_fused, arguments = OPTIONS[option]
    with tf.device("GPU:0"):
        make = lambda: keras.optimizers.Adam(0.1, **arguments)  # noqa: E731
        counts = a_step(minimizer(variables_on(["GPU:0"] * 3), make))
    check_nothing_but(counts, num_fused)
    assert in_place(kernels.steps())


DERIVED = {
    "a number": lambda q: tf.sqrt(q.loss),
    "a flag": lambda q: q.has_converged,
    "the number of the step, an int32": lambda q: (q.loss, q.step),
    "a string": lambda q: (q.loss, tf.constant("a")),
}


@pytest.mark.parametrize("trace", DERIVED)
def test_a_trace_that_the_update_does_not_write_does_not_travel(trace):
    with tf.device("GPU:0"):
        counts = a_step(minimizer(variables_on(["GPU:0"]), trace_fn=DERIVED[trace]))
    assert counts.copies == 0, counts.of("cuMem")
    assert counts["kernel fill_rows"] == (0 if "," in trace or "string" in trace else 1)


# Where variables are, where `minimize` is called, whether it is called in a function.
PLACES = {
    "CPU:0": ("CPU:0", None, False),
    "CPU:0, within its scope": ("CPU:0", "CPU:0", False),
    "CPU:0, in a function": ("CPU:0", None, True),
    "GPU:0": ("GPU:0", None, False),
    "GPU:1": ("GPU:1", None, False),
    "GPU:1, within its scope": ("GPU:1", "GPU:1", False),
    "GPU:1, in a function": ("GPU:1", None, True),
}


@pytest.mark.parametrize("place", PLACES)
def test_the_loop_is_where_the_variables_are(place):
    device, scope, in_function = PLACES[place]
    if device == "GPU:1" and len(tf.config.list_logical_devices("GPU")) < 2:
        pytest.skip("there is one device")
    fit = minimizer(variables_on([device] * 2), trace_fn=lambda q: (q.loss, q.parameters))

    def run(num_steps):
        with tf.device(scope):
            return fit(num_steps)

    functions = {}
    if in_function:
        run = lambda n: functions.setdefault(n, tf.function(lambda: fit(n), autograph=False))()  # noqa: E731
    counts = a_step(run)
    # What a function returns is copied to its device once, not at each step.
    assert counts.copies == pytest.approx(0, abs=0.2), counts.of("cuMem")
    assert counts.synchronisations == pytest.approx(0, abs=0.5), counts.of("cuStream", "cuEvent")
    assert sum(counts.of(*OUR_KERNELS).values()) == (1 if device.startswith("GPU") else 0)
    assert counts.kernels == 0 or device.startswith("GPU")


def test_a_scope_of_the_user_stays():
    """A loss in a `tf.device` is computed there."""
    variables = variables_on(["CPU:0"])
    with tf.device("CPU:0"):
        optimizer = keras.optimizers.Adam(0.1)
        optimizer.build(variables)

    def loss():
        with tf.device("GPU:0"):
            return tf.reduce_sum((variables[0] - 3.0) ** 2)

    counts = a_step(fusemin.Minimizer(loss, optimizer, trainable_variables=variables))
    assert counts.kernels > 0
    assert counts.copied_bytes < 2 * 400 + 100


MAKE = {
    "keras Adam": lambda: keras.optimizers.Adam(0.1),
    "tf_keras Adam": lambda: tf_keras.optimizers.Adam(0.1),
    "tf_keras legacy Adam": lambda: tf_keras.optimizers.legacy.Adam(0.1),
    "tf.compat.v1 Adam": lambda: tf.compat.v1.train.AdamOptimizer(0.1),
}


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "in a function"])
@pytest.mark.parametrize("optimizer", MAKE)
def test_fuse(optimizer, graph, kernels):
    with tf.device("GPU:0"):
        variables = variables_on(["GPU:0"] * 20)
        gradients = [tf.constant(np.ones(100, np.float32)) for _ in variables]
        fused = fusemin.fuse(MAKE[optimizer]())

        def step():
            fused.apply_gradients(list(zip(gradients, variables, strict=True)))

        step()  # Creates the slots; in a function kernels of TensorFlow, which are not run, would say whether to.
        take = tf.function(step, autograph=False) if graph else step

        def run(num_steps):
            for _ in range(num_steps):
                take()

        counts = a_step(run)
    check_nothing_but(counts, 1)
    assert in_place(kernels.steps())


stock_inside_xla = functools.cache(functools.partial(of_stock, jit_compile=True))


def check_inside_xla(num_variables):
    """No more kernels, graphs, copies and waits than stock under XLA."""
    with tf.device("GPU:0"):
        counts = a_step(minimizer(variables_on(["GPU:0"] * num_variables), jit_compile=True))
    stock = stock_inside_xla(num_variables)
    assert 0 < counts.kernels <= stock.kernels, counts.of("kernel")
    assert counts["cuGraphLaunch"] <= 1
    assert counts.copies <= stock.copies, counts.of("cuMem")
    assert counts.synchronisations == 0, counts.of("cuStream", "cuEvent")


@pytest.mark.parametrize("num_variables", [1, 20])
def test_inside_xla_a_step_is_no_more_than_stocks(num_variables):
    check_inside_xla(num_variables)


def check_a_long_trace_inside_xla():
    """Of 10 variables of 100, which on a CPU has chunks. The condition of a loop whose end XLA does not know would be
    copied to the host, and as kernels are not run, it would have no end: the copy fails instead."""
    with tf.device("GPU:0"):
        fit = minimizer(variables_on(["GPU:0"] * 10), jit_compile=True)
        with failing("cuMemcpyDtoHAsync", 1), counted() as found:
            fit(400)
    (counts,) = found
    assert counts["cuGraphLaunch"] == 400, counts.of("Graph", "cuMem")
    assert counts.synchronisations < 40


def test_inside_xla_a_long_trace_does_not_come_to_the_host():
    check_a_long_trace_inside_xla()


@pytest.mark.parametrize("num_variables", NUMBERS)
def test_the_table_of_the_page(num_variables):
    """What it says of fusemin. `python -m tests.gpu_device --table` writes it anew."""
    for row in rows_of_fusemin(num_variables):
        assert row in in_page()
