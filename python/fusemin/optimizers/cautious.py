"""Cautious optimizers: any Keras optimizer, without the moves that disagree with the gradient."""

import functools

import keras
import tensorflow as tf

from fusemin.families.own import adapter_of, fused_by
from fusemin.optimizers.adan import Adan
from fusemin.optimizers.base import arithmetic_dtype


class _Cautious:
    """What a cautious optimizer does after the step of its base."""

    def update_step(self, gradient, variable, learning_rate):
        dtype = arithmetic_dtype(variable.dtype)
        before = tf.identity(tf.convert_to_tensor(variable))
        super().update_step(gradient, variable, learning_rate)
        before, after, gradient = (tf.cast(tf.convert_to_tensor(x), dtype) for x in (before, variable, gradient))
        move = before - after
        agrees = tf.cast(move * gradient > 0, dtype)
        count = tf.reduce_sum(tf.cast(agrees, tf.float64))
        factor = tf.cast(tf.cast(tf.size(move), tf.float64) / (count + 1.0), dtype)
        # A product, so that a move that is not finite stays seen.
        self.assign(variable, before - move * (agrees * factor))


@functools.cache
def cautious(base: type) -> type:
    """A cautious twin of a class of Keras optimizers: Liang et al. 2024, arXiv 2411.16085, Algorithm 1.

    Where a step would move an element up its gradient, it stays; the others move the further. With u = x - x', x' what
    the base makes of x, g the gradient as the base sees it, and d the number of elements of the variable:

        phi = 1 where u g > 0, else 0;  x <- x - d / (|phi|_0 + 1) phi u

    `weight_decay` of Keras is done before, and not masked; a decay that is part of the base's own rule is part of u.

    Args:
      base: a class of `keras.optimizers` or `fusemin.optimizers`, or a subclass of one.

    Returns:
      A subclass, `Cautious` and the name of the base, with the base's arguments, config and slots. The same one each
      time. Twins of what fusemin fuses are fused.

    Raises:
      TypeError: `base` is no class of Keras 3 optimizers, or one that leaves its steps to another.

    >>> import keras, fusemin
    >>> CautiousAdagrad = fusemin.optimizers.cautious(keras.optimizers.Adagrad)
    >>> optimizer = CautiousAdagrad(learning_rate=0.1)
    >>> fusemin.optimizers.cautious(keras.optimizers.Adam) is fusemin.optimizers.CautiousAdam
    True
    """
    if not (isinstance(base, type) and issubclass(base, keras.optimizers.Optimizer)):
        raise TypeError(f"`base` must be a class of Keras 3 optimizers, it is {base!r}")
    if issubclass(base, keras.optimizers.LossScaleOptimizer | _Cautious):
        raise TypeError(f"`base` must be a class of optimizers that take steps of their own, it is {base.__name__}")
    doc = f"""The cautious twin of `{base.__name__}`, see `cautious`."""
    name = f"Cautious{base.__name__}"
    cls = type(name, (_Cautious, base), {"__module__": __name__, "__qualname__": name, "__doc__": doc})
    return fused_by(adapter_of(base), cautious=1.0)(cls)


CautiousAdam = cautious(keras.optimizers.Adam)
CautiousAdamW = cautious(keras.optimizers.AdamW)
CautiousAdan = cautious(Adan)
CautiousLion = cautious(keras.optimizers.Lion)
CautiousNadam = cautious(keras.optimizers.Nadam)
CautiousSGD = cautious(keras.optimizers.SGD)
