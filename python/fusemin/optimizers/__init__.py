"""Keras optimizers that TensorFlow and Keras do not have, fused.

Each works as any optimizer of `keras.optimizers` does, by its own step, and is fused by `fusemin.minimize` and
`fusemin.fuse`.

>>> import fusemin
>>> optimizer = fusemin.fuse(fusemin.optimizers.Adan(learning_rate=1e-3))
"""

from fusemin.optimizers.adan import Adan
from fusemin.optimizers.cautious import (
    CautiousAdam,
    CautiousAdamW,
    CautiousAdan,
    CautiousLion,
    CautiousNadam,
    CautiousSGD,
    cautious,
)
from fusemin.optimizers.prodigy import Prodigy
from fusemin.optimizers.schedule_free import EvaluateAverage, ScheduleFreeAdamW

__all__ = [
    "Adan",
    "CautiousAdam",
    "CautiousAdamW",
    "CautiousAdan",
    "CautiousLion",
    "CautiousNadam",
    "CautiousSGD",
    "EvaluateAverage",
    "Prodigy",
    "ScheduleFreeAdamW",
    "cautious",
]
