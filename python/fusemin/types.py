"""The types in the signatures of what users call. TensorFlow has no type stubs, so a checker takes a `tf.Tensor` for
anything."""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import tensorflow as tf


class ConvergenceCriterion(Protocol):
    """When a loop may stop: the protocol of `tfp.optimizer.convergence_criteria`. See `fusemin.convergence`."""

    def bootstrap(self, loss: Any, grads: Any, parameters: Any) -> Any:
        """The state at step 0."""
        ...

    def one_step(self, step: Any, loss: Any, grads: Any, parameters: Any, auxiliary_state: Any) -> tuple[Any, Any]:
        """`(has_converged, state)` at a step from 1 on."""
        ...


class Optimizer(Protocol):
    """Any object with `apply_gradients(grads_and_vars)`."""

    @property
    def apply_gradients(self) -> Callable[..., Any]:
        """Updates variables by gradients."""
        ...


class PureOptimizer(Protocol):
    """An optimizer without variables, as those of Optax: for `minimize_stateless`."""

    @property
    def init(self) -> Callable[..., Any]:
        """The state for some parameters."""
        ...

    @property
    def update(self) -> Callable[..., Any]:
        """The update and the next state, of gradients, a state and parameters."""
        ...


Loss: TypeAlias = Callable[..., Any]
NumSteps: TypeAlias = int | tf.Tensor | tf.Variable
Seed: TypeAlias = int | tf.Tensor | Callable[..., Any]
# A Tensor, or a nested structure of them.
Trace: TypeAlias = Any
