"""`stock`: TensorFlow's own ops in place of those of fusemin, for graphs that are to be loaded without it."""

import contextlib
import contextvars
from collections.abc import Iterator

_OPEN = contextvars.ContextVar("fusemin_stock", default=False)


def is_stock() -> bool:
    """Whether a `stock` context is open in this thread."""
    return _OPEN.get()


@contextlib.contextmanager
def stock() -> Iterator[None]:
    """Inside of it nothing that is run or traced has ops of fusemin: optimizers take their own updates.

    For a SavedModel with a signature that trains. A graph that was traced with the fused op loads after `import
    fusemin` only; one that was traced in here loads anywhere. Both train alike. What only serves, as the inference
    signatures of a model, has no such op and needs nothing.

    It counts where a `tf.function` is traced, not where it runs: one that was called, or saved, before holds what it
    was traced to. So save a function that has not been called yet, or wrap it in a new `tf.function`. `minimize` and
    `minimize_stateless` in such a function are TensorFlow's ops too. `explain` says "inside of fusemin.stock()".

    >>> import keras, tensorflow as tf, fusemin
    >>> class Trained(tf.Module):
    ...     def __init__(self):
    ...         self.x = tf.Variable([1.0, 2.0])
    ...         self.optimizer = fusemin.fuse(keras.optimizers.SGD(learning_rate=0.25))
    ...     def step(self):
    ...         with tf.GradientTape() as tape:
    ...             loss = tf.reduce_sum(self.x**2)
    ...         self.optimizer.apply_gradients([(tape.gradient(loss, self.x), self.x)])
    ...         return {"loss": loss}
    >>> trained = Trained()
    >>> def op_types(function):
    ...     return {op.type for op in function.get_concrete_function().graph.get_operations()}
    >>> "Fusemin>FusedStep" in op_types(tf.function(trained.step))
    True
    >>> with fusemin.stock():
    ...     step = tf.function(trained.step)
    ...     "Fusemin>FusedStep" in op_types(step)
    False
    """
    token = _OPEN.set(True)
    try:
        yield
    finally:
        _OPEN.reset(token)
