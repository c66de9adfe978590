"""Keras optimizers that TensorFlow and Keras do not have, fused.

Each works as any optimizer of `keras.optimizers` does, by its own step, and is fused by `fusemin.minimize` and
`fusemin.fuse`.

>>> import fusemin
>>> optimizer = fusemin.fuse(fusemin.optimizers.Adan(learning_rate=1e-3))
"""

from fusemin.optimizers.adan import Adan
from fusemin.optimizers.schedule_free import EvaluateAverage, ScheduleFreeAdamW

__all__ = ["Adan", "EvaluateAverage", "ScheduleFreeAdamW"]
