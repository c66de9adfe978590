"""The update as one loop over the elements, into which XLA fuses the gradient: only where nothing reads an element that
the loop has replaced already, and only where XLA compiles such a loop."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import fusemin
from tests.support.compiled_steps import form_of_update
from tests.support.minimize_runs import assert_same, run_program

SIZE = 300
RTOL = 1e-11
RANDOM = np.random.default_rng(0)
START, TARGET = RANDOM.normal(size=[2, SIZE])
MATRIX = RANDOM.normal(size=[SIZE, SIZE]) / SIZE
IN_PLACE = "output_to_operand_aliasing"
# TensorFlow 2.20 leaves the emitter that the loop needs off.
HAS_LOOPS = tuple(map(int, tf.__version__.split(".")[:2])) >= (2, 21)


def distance(x):
    return tf.reduce_sum((x - TARGET) ** 2)


def pull(x, read):
    """A loss whose gradient is `read(x)`, besides that of the distance."""
    return distance(x) + tf.reduce_sum(x * tf.stop_gradient(read(x)))


# The gradient of an element depends on that element, and on sums over all.
ELEMENTWISE = {
    "distance": distance,
    "norm": lambda x: tf.reduce_sum((x / tf.sqrt(tf.reduce_sum(x**2) + 1.0) - TARGET) ** 2),
    "largest": lambda x: distance(x) + tf.reduce_max(x) ** 2,
    "logsumexp": lambda x: tf.reduce_logsumexp(x) - tf.reduce_mean(x * TARGET),
    "loop": lambda x: tf.reduce_sum(tf.exp(0.1 * x) * tf.where(x > 0.0, x, -TARGET)),
}
# XLA would compute these in the loop, of elements that it has replaced already. It did so for "reversed" and "tiled".
OF_OTHER_ELEMENTS = {
    "reversed": lambda x: pull(x, lambda x: tf.reverse(x, [0])),
    "tiled": lambda x: pull(x, lambda x: tf.tile(x[: SIZE // 2], [2])),
    "rolled": lambda x: pull(x, lambda x: tf.roll(x, 1, 0)),
    "padded": lambda x: pull(x, lambda x: tf.pad(x[1:], [[0, 1]])),
    "first": lambda x: pull(x, lambda x: x[0] + tf.zeros_like(x)),
    "sum of first": lambda x: tf.reduce_sum(x[:1]) * distance(x) / SIZE,
    "gathered": lambda x: pull(x, lambda x: tf.gather(x, tf.range(SIZE)[::-1])),
    "transposed": lambda x: pull(x, lambda x: tf.reshape(tf.transpose(tf.reshape(x, [10, 30])), [SIZE])),
    "pairs": lambda x: tf.reduce_mean(tf.sqrt(1.0 + (x[:, None] - x[None, :]) ** 2)) + distance(x),
    "differences": lambda x: distance(x) + tf.reduce_sum((x[1:] - x[:-1]) ** 2),
    "product": lambda x: distance(x) + tf.reduce_sum(tf.linalg.matvec(MATRIX, x) ** 2),
    "cumulative": lambda x: tf.reduce_sum((tf.cumsum(x) / SIZE - TARGET) ** 2),
}
OPTIMIZERS = {
    "Adam": lambda: keras.optimizers.Adam(0.05),
    "momentum": lambda: keras.optimizers.SGD(0.001, momentum=0.9, global_clipnorm=1.0),
    "all options": lambda: keras.optimizers.AdamW(
        0.1, weight_decay=0.1, clipnorm=0.5, use_ema=True, gradient_accumulation_steps=2
    ),
}


def run(make_optimizer, losses, jit_compile, num_steps=6, before=lambda variables: None, start=START, form="loops"):
    """`(trace and variables, HLO)` of a fit of `losses(*variables)`; as many variables as it takes."""
    variables = [tf.Variable(start * (i + 1)) for i in range(losses.__code__.co_argcount)]
    optimizer = make_optimizer()
    optimizer.build(variables)

    @tf.function(autograph=False, jit_compile=jit_compile)
    def fit():
        before(variables)
        return fusemin.minimize(
            lambda: losses(*variables),
            num_steps,
            optimizer,
            trainable_variables=variables,
            trace_fn=lambda q: (q.loss, q.gradients),
        )

    with form_of_update(form):
        trace = fit()
        hlo = fit.experimental_get_compiler_ir()(stage="hlo") if jit_compile else ""
    return (trace, [v.numpy() for v in variables]), hlo


def compare(make_optimizer, losses, **options):
    """The HLO of a fit, which is as in the default mode."""
    got, hlo = run(make_optimizer, losses, True, **options)
    want, _ = run(make_optimizer, losses, None, **options)
    assert_same(got, want, rtol=RTOL)
    return hlo


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("loss", ELEMENTWISE)
def test_a_gradient_of_the_same_element_is_part_of_the_loop(loss, optimizer):
    assert (IN_PLACE in compare(OPTIMIZERS[optimizer], ELEMENTWISE[loss])) == HAS_LOOPS


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("loss", OF_OTHER_ELEMENTS)
def test_a_gradient_of_other_elements_is_computed_before(loss, optimizer):
    assert IN_PLACE not in compare(OPTIMIZERS[optimizer], OF_OTHER_ELEMENTS[loss])


def test_variables_that_move_each_other():
    assert IN_PLACE in compare(OPTIMIZERS["Adam"], lambda x, y: distance(x * y) + distance(x + y))


def test_of_two_variables_one_may_be_a_loop():
    hlo = compare(OPTIMIZERS["Adam"], lambda x, y: distance(x) + OF_OTHER_ELEMENTS["reversed"](y))
    assert hlo.count(IN_PLACE) == 1


@pytest.mark.parametrize("num_steps", [1, 2])
def test_variables_that_the_program_has_made(num_steps):
    """XLA inlines a loop of one step, and fuses what the variables were before into the update."""

    def assign(variables):
        for variable in variables:
            variable.assign(variable * 2.0 + 1.0)

    hlo = compare(OPTIMIZERS["Adam"], distance, num_steps=num_steps, before=assign)
    assert (IN_PLACE in hlo) == (num_steps > 1)


def test_large_variables_of_which_one_cannot_be_a_loop():
    """Then it is the kernels that update both."""

    def losses(x, y):
        return tf.reduce_sum((x - 1.0) ** 2) + tf.reduce_sum(y * tf.stop_gradient(tf.reverse(y, [0])))

    hlo = compare(OPTIMIZERS["Adam"], losses, num_steps=3, start=np.tile(START, 200), form=None)
    assert "fusemin_step" in hlo


PROGRAM = """
    import keras, tensorflow as tf, fusemin

    x = tf.Variable(tf.zeros([4000]))
    fusemin.minimize(lambda: tf.reduce_sum((x - 5.0) ** 2), 200, keras.optimizers.Adam(0.5), trainable_variables=[x],
                     jit_compile=True)
    print(bool(tf.reduce_max(tf.abs(x - 5.0)) < 0.05))
"""


@pytest.mark.parametrize(
    "flags",
    [
        "--xla_cpu_use_fusion_emitters=false",
        "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters",
        "--xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold=1000000",
    ],
)
def test_flags_of_xla_that_choose_its_older_emitter(flags):
    """It crashes on such a loop, so there must be none."""
    assert run_program(PROGRAM, XLA_FLAGS=flags) == "True\n"
