"""The rivals, an entry each. A new one is a function here and a line in `RIVALS`.

`build(problem, learning_rate, num_steps)` returns a `Fit`, with nothing traced or compiled yet.
"""

import dataclasses
import functools
import importlib.util
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from benchmarks.problems import BETA_1, BETA_2, EPSILON, Math

SEED = (1, 2)


class Fit(NamedTuple):
    """An optimization that is set up.

    Attributes:
      run: takes a fixed number of steps from where the variables are, returns their losses as a NumPy array.
      save: returns the state of variables and optimizer.
      restore: sets it, in memory that nothing else refers to.
    """

    run: Callable[[], np.ndarray]
    save: Callable[[], object]
    restore: Callable[[object], None]


@dataclasses.dataclass(frozen=True)
class Rival:
    """Something that minimizes.

    Attributes:
      name: in tables.
      group: "stock" is `tfp.math.minimize` in its default mode, what fusemin stands in for; "loss" does no update.
      library: of `Problem.libraries`.
      build: see above.
      needs: the modules that it imports.
      family: of the optimizer, a key of ADAMS.
    """

    name: str
    group: Literal[
        "fusemin",
        "stock",
        "fusemin, jit",
        "stock, jit",
        "fusemin, eager",
        "stock, eager",
        "loss",
        "loss, jit",
        "other",
        "other, jit",
    ]
    library: str
    build: Callable
    needs: tuple[str, ...] = ()
    family: str | None = None

    def available(self) -> bool:
        """Whether all that it needs is installed."""
        return all(importlib.util.find_spec(module) for module in self.needs)

    @property
    def jit(self) -> bool:
        return self.group.endswith("jit")


# Optimizers. Numbered names ("adam_1", "adam_2") would fill caches of TensorFlow that are never emptied.
def keras_adam(learning_rate):
    import keras

    return keras.optimizers.Adam(learning_rate, BETA_1, BETA_2, EPSILON, name="adam")


def tf_keras_adam(learning_rate):
    import tf_keras

    return tf_keras.optimizers.Adam(learning_rate, BETA_1, BETA_2, EPSILON, name="adam")


def legacy_adam(learning_rate):
    import tf_keras

    return tf_keras.optimizers.legacy.Adam(learning_rate, BETA_1, BETA_2, EPSILON, name="adam")


def compat_v1_adam(learning_rate):
    import tensorflow as tf

    return tf.compat.v1.train.AdamOptimizer(learning_rate, BETA_1, BETA_2, EPSILON, name="adam")


# Function, and what it needs.
ADAMS = {
    "keras": (keras_adam, ()),
    "tf_keras": (tf_keras_adam, ("tf_keras",)),
    "tf_keras legacy": (legacy_adam, ("tf_keras",)),
    "tf.compat.v1": (compat_v1_adam, ()),
}


def minimize_of(library: str) -> Callable:
    """`minimize` of "fusemin" or "tfp"; both are called in the same way."""
    if library == "fusemin":
        import fusemin

        return fusemin.minimize
    import tensorflow_probability as tfp

    return tfp.math.minimize


@functools.cache
def tf_math() -> Math:
    import tensorflow as tf

    return Math(tf.constant, tf.reduce_sum, tf.add_n, tf.tanh, tf.nn.softplus)


def tf_variables(problem) -> list:
    import tensorflow as tf

    return [tf.Variable(value, name=f"x{i}") for i, value in enumerate(problem.start())]


def optimizer_variables(optimizer) -> list:
    """The state of an optimizer of any of the families."""
    held = optimizer.variables
    return list(held() if callable(held) else held)


def restore_variables(variables, values) -> None:
    """Assigns values, each in memory of its own: a step would have to copy what is shared."""
    import tensorflow as tf

    for variable, value in zip(variables, values, strict=True):
        variable.assign(value + tf.zeros_like(value))


def _tf_fit(run, variables, optimizer=None) -> Fit:
    import tensorflow as tf

    def state():
        return [*variables, *(optimizer_variables(optimizer) if optimizer is not None else ())]

    def save():
        return [tf.constant(v.numpy()) for v in state()]

    return Fit(lambda: run(tf.constant(SEED)).numpy(), save, lambda values: restore_variables(state(), values))


def _minimize(library, family, problem, learning_rate, num_steps, jit_compile=False, eager=False) -> Fit:
    """`minimize` inside a `tf.function`, so that it is traced once; or called eagerly, as most people do."""
    import tensorflow as tf

    variables, loss = tf_variables(problem), problem.bind(tf_math())
    optimizer, minimize = ADAMS[family][0](learning_rate), minimize_of(library)
    loss_fn = (lambda seed: loss(variables, seed)) if problem.seeded else (lambda: loss(variables))

    def run(seed):
        return minimize(
            loss_fn,
            num_steps=num_steps,
            optimizer=optimizer,
            trainable_variables=variables,
            jit_compile=jit_compile,
            **({"seed": seed} if problem.seeded else {}),
        )

    return _tf_fit(run if eager else tf.function(run, autograph=False), variables, optimizer)


def _tape_loop(problem, num_steps, variables, apply, jit_compile=None):
    """A loop as one writes it by hand, in a `tf.function`; `apply` is given the gradients of a step."""
    import tensorflow as tf

    loss_of = problem.bind(tf_math())

    @functools.partial(tf.function, autograph=False, jit_compile=jit_compile)
    def run(seed):
        def body(step, losses):
            seeds = [tf.random.experimental.stateless_fold_in(seed, step)] if problem.seeded else []
            with tf.GradientTape() as tape:
                loss = loss_of(variables, *seeds)
            apply(tape.gradient(loss, variables))
            return step + 1, losses.write(step, loss)

        losses = tf.TensorArray(tf.float32, num_steps, element_shape=[])
        return tf.while_loop(lambda step, _: step < num_steps, body, (0, losses), parallel_iterations=1)[1].stack()

    return run


def _gradient_tape(wrap, problem, learning_rate, num_steps) -> Fit:
    variables, optimizer = tf_variables(problem), wrap(keras_adam(learning_rate))
    optimizer.build(variables)

    def apply(gradients):
        optimizer.apply_gradients(list(zip(gradients, variables, strict=True)))

    return _tf_fit(_tape_loop(problem, num_steps, variables, apply), variables, optimizer)


def fused(optimizer):
    import fusemin

    return fusemin.fuse(optimizer)


def keep(gradients, sinks) -> None:
    """Stores gradients, so that they are computed: what nobody reads, TensorFlow leaves out."""
    for gradient, sink in zip(gradients, sinks, strict=True):
        sink.assign(getattr(gradient, "values", gradient), read_value=False)


def make_sinks(variables) -> list:
    """Variables for `keep`, of any shape: a sparse gradient has that of what was read."""
    import tensorflow as tf

    return [tf.Variable(tf.zeros(v.shape, v.dtype), shape=tf.TensorShape(None), trainable=False) for v in variables]


def _loss_alone(problem, learning_rate, num_steps) -> Fit:
    del learning_rate
    variables = tf_variables(problem)
    sinks = make_sinks(variables)
    return _tf_fit(_tape_loop(problem, num_steps, variables, functools.partial(keep, sinks=sinks)), variables)


def _loss_alone_jit(problem, learning_rate, num_steps) -> Fit:
    del learning_rate
    variables = tf_variables(problem)

    def replace(gradients):
        # XLA would compute once for all steps what only depends on variables that stay. A part: else they would grow.
        for variable, gradient in zip(variables, gradients, strict=True):
            variable.assign(0.25 * gradient, read_value=False)

    return _tf_fit(_tape_loop(problem, num_steps, variables, replace, jit_compile=True), variables)


def _torch(problem, learning_rate, num_steps, **options) -> Fit:
    import torch

    variables = [torch.tensor(value, requires_grad=True) for value in problem.start()]
    optimizer = torch.optim.Adam(variables, learning_rate, (BETA_1, BETA_2), EPSILON, **options)
    loss_of = problem.bind(
        Math(
            torch.from_numpy,
            torch.sum,
            lambda terms: torch.stack(terms).sum(),
            torch.tanh,
            torch.nn.functional.softplus,
        )
    )

    def run():
        losses = []
        for _ in range(num_steps):
            optimizer.zero_grad()
            loss = loss_of(variables)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses).numpy()

    def state():
        return [*(v.detach() for v in variables), *(t for v in variables for t in optimizer.state[v].values())]

    def restore(values):
        for tensor, value in zip(state(), values, strict=True):
            tensor.copy_(value)

    return Fit(run, lambda: [tensor.clone() for tensor in state()], restore)


def _jax(problem, learning_rate, num_steps) -> Fit:
    import jax
    import jax.numpy as jnp
    import optax

    optimizer = optax.adam(learning_rate, BETA_1, BETA_2, EPSILON)
    value_and_grad = jax.value_and_grad(problem.bind(Math(jnp.asarray, jnp.sum, sum, jnp.tanh, jax.nn.softplus)))

    def step(carry, _):
        variables, state = carry
        loss, gradients = value_and_grad(variables)
        updates, state = optimizer.update(gradients, state)
        return (optax.apply_updates(variables, updates), state), loss

    @functools.partial(jax.jit, donate_argnums=0)
    def scan(carry):
        return jax.lax.scan(step, carry, length=num_steps)

    variables = [jnp.array(value) for value in problem.start()]
    carry = (variables, optimizer.init(variables))

    def run():
        nonlocal carry
        carry, losses = scan(carry)
        jax.block_until_ready(carry)
        return np.asarray(losses)

    def copy(tree):
        return jax.block_until_ready(jax.tree.map(jnp.copy, tree))

    def restore(saved):
        nonlocal carry
        carry = copy(saved)

    return Fit(run, lambda: copy(carry), restore)


_TFP = ("tensorflow_probability",)


def _of_minimize(library, family) -> Rival:
    group, needs = ("fusemin", ()) if library == "fusemin" else ("stock", _TFP)
    build = functools.partial(_minimize, library, family)
    return Rival(f"{library}, {family} Adam", group, "tensorflow", build, (*needs, *ADAMS[family][1]), family)


def _jit(rival: Rival) -> Rival:
    build = functools.partial(rival.build, jit_compile=True)
    return dataclasses.replace(rival, name=f"{rival.name}, jit", group=f"{rival.group}, jit", build=build)


def _eager(rival: Rival) -> Rival:
    build = functools.partial(rival.build, eager=True)
    return dataclasses.replace(rival, name=f"{rival.name}, eager", group=f"{rival.group}, eager", build=build)


def _tape_rival(name, wrap) -> Rival:
    return Rival(name, "other", "tensorflow", functools.partial(_gradient_tape, wrap), family="keras")


# Stock ones first: they are the reference of problems that have no other.
_DEFAULT = [_of_minimize(library, family) for library in ("tfp", "fusemin") for family in ADAMS]

RIVALS = {
    rival.name: rival
    for rival in [
        *_DEFAULT,
        *map(_jit, _DEFAULT),
        *map(_eager, _DEFAULT),
        _tape_rival("GradientTape loop, keras Adam", lambda optimizer: optimizer),
        _tape_rival("GradientTape loop, fuse(keras Adam)", fused),
        Rival("loss and gradient alone", "loss", "tensorflow", _loss_alone),
        Rival("loss and gradient alone, jit", "loss, jit", "tensorflow", _loss_alone_jit),
        Rival("torch loop, fused", "other", "torch", functools.partial(_torch, fused=True), ("torch",)),
        Rival("torch loop, foreach", "other", "torch", functools.partial(_torch, foreach=True), ("torch",)),
        Rival("jax + optax, scan, jit", "other, jit", "jax", _jax, ("jax", "optax")),
    ]
}


def rivals_for(problem, names) -> dict[str, Rival]:
    """Those of the names, in the order of `RIVALS`, that are installed and can take the problem."""
    return {
        name: rival
        for name, rival in RIVALS.items()
        if name in names and rival.available() and rival.library in problem.libraries
    }
