"""Convergence criteria, for `convergence_criterion` of `minimize`, and of `tfp.math.minimize`.

>>> from fusemin import convergence
>>> criterion = convergence.AnyOf(convergence.GradientNorm(1e-6), convergence.LossPlateau(patience=100))
"""

from fusemin.loop.convergence import LossNotDecreasing
from fusemin.loop.criteria import AllOf, AnyOf, GradientNorm, LossPlateau, ParametersSettled

__all__ = ["AllOf", "AnyOf", "GradientNorm", "LossNotDecreasing", "LossPlateau", "ParametersSettled"]
