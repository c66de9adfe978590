"""Numbers as the stock optimizers see them."""

import numpy as np
import tensorflow as tf


def as_hyperparameter(x):
    """What a user gave for a number, as a `family.Hyperparameter`: float, variable, or function of a dtype.

    A variable is read at every step, as stock does, and not when the optimizer is bound.
    """
    if isinstance(x, tf.Variable) or callable(x):
        return x
    if tf.is_tensor(x):
        return lambda dtype: x
    return float(x)


def through_float32(x):
    """A number as it is after `tf.cast` or `tf.convert_to_tensor`.

    These make a Python number float32 before anything else. Several optimizers do this to some of their hyperparameters
    even where the variables are of float64. What has a dtype of its own keeps it.
    """
    if isinstance(x, tf.Variable | tf.Tensor | np.generic):
        return x
    return float(np.float32(x))
