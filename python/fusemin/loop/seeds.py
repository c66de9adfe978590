"""Seeds of stochastic losses, with the meaning they have in TensorFlow Probability ("PRNGS.md" there).

A seed is an int32 tensor of shape [2] that stateless samplers take. From an int or None one is drawn statefully; from
each, others are derived by splitting. The same seed gives here the same per-step seeds as in `tfp.math.minimize`.
"""

import hashlib

import numpy as np
import tensorflow as tf

# Names the consumer of a seed, so that two of them do not draw the same numbers. TFP's `minimize` has this one.
_SALT = "minimize"


def _hash(text: str) -> int:
    return int(hashlib.sha512(text.encode()).hexdigest(), 16) % (2**31 - 1)


def sanitize_seed(seed) -> tf.Tensor:
    """A stateless seed, shape [2], dtype int32.

    Args:
      seed: an int, or a pair of int32, of which a single tensor stands for two that are the same; or a function that
        gives one of these, such as a SeedStream of TensorFlow Probability.

    Raises:
      TypeError: it is nothing of these.
    """
    if callable(seed):
        seed = seed()
    has_dtype = tf.is_tensor(seed) or isinstance(seed, np.ndarray | np.generic)
    if has_dtype and not tf.as_dtype(seed.dtype).is_integer:
        raise TypeError(f"`seed` must be an int or two int32 numbers, it is {seed!r}")
    if isinstance(seed, int | np.integer):
        limits, text = np.iinfo(np.int32), str((seed if isinstance(seed, int) else int(seed), _SALT))
        return tf.random.uniform([2], limits.min, limits.max, tf.int32, seed=_hash(text))
    try:
        seed = tf.convert_to_tensor(seed, tf.int32)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`seed` must be an int or two int32 numbers, it is {seed!r}") from error
    if not any(seed.shape.is_compatible_with(shape) for shape in ([2], [1], [])):
        raise TypeError(f"`seed` must be an int or two int32 numbers, it has shape {seed.shape}")
    return tf.bitwise.bitwise_xor(seed, np.array([_hash(_SALT)], np.uint64).view(np.int32))


def split_seed(seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Two independent seeds from one."""
    pair = tf.random.stateless_uniform([2, 2], seed, None, None, tf.int32)
    return pair[0], pair[1]
