"""`fuse`: an optimizer that takes fused steps, for loops that are not `minimize`."""

import contextlib
import logging
from typing import TypeVar

import tensorflow as tf

from fusemin.arguments import check_optimizer
from fusemin.families import STEPS_ATTRIBUTE, find_family, inner_optimizers
from fusemin.families.family import SHARDS_ATTRIBUTE
from fusemin.types import Optimizer
from fusemin.update.plan import find_class_reason
from fusemin.update.shards import Shards, shards_of
from fusemin.update.traced_steps import TracedSteps

_LOGGER = logging.getLogger("fusemin")
_Optimizer = TypeVar("_Optimizer", bound=Optimizer)


class _Fused:
    """Comes after the mixin of its family and before the class of an optimizer, whose method then tries the op first.

    An instance is given such a class, and not an attribute that hides the method: a method knows its optimizer without
    a cycle, which would leave slots as large as the model to the garbage collector, and is right in a copy too.
    """

    def _take_fused(self, gradients, variables, summed=False) -> bool:
        """Takes a fused step, if it can. Returns whether it did; if not, nothing was changed.

        Args:
          gradients: for each of the variables.
          variables: as the optimizer takes them.
          summed: whether the gradients are sums over the replicas of a strategy already.
        """
        held = vars(self)
        steps = held.get(STEPS_ATTRIBUTE)
        if steps is None:
            # Past `__setattr__`, by which Keras tracks what a checkpoint holds.
            steps = held.setdefault(STEPS_ATTRIBUTE, TracedSteps())
        return steps.take(self, gradients, variables, summed)

    def _take_fused_pairs(self, grads_and_vars: list, summed=False) -> bool:
        """`_take_fused`, of pairs."""
        if not grads_and_vars:
            return False
        gradients, variables = zip(*grads_and_vars, strict=True)
        return self._take_fused(gradients, variables, summed)

    def _assign_owners(self, variables) -> None:
        """With slots in parts, decides who has those of which variable."""
        shards = shards_of(self)
        if shards is not None:
            shards.assign(variables)

    def _beside_owner(self, variable):
        """A context in which what is made for a variable is where its slots are to be."""
        shards = shards_of(self)
        return contextlib.nullcontext() if shards is None else shards.beside_owner(variable)

    def __reduce_ex__(self, protocol):
        if shards_of(self) is not None:
            raise TypeError(
                f"{type(self).__name__} has its slots in parts on several devices (`shard_slots=True`) and can be "
                "neither copied nor pickled; save a checkpoint, which has them whole"
            )
        # A copy or a pickle is of the optimizer as it was before `fuse`, so it loads without fusemin.
        stock = object.__new__(self.__class__)
        vars(stock).update({name: value for name, value in vars(self).items() if name != STEPS_ATTRIBUTE})
        return stock.__reduce_ex__(protocol)


def _fused_class(stock: type, mixin: type) -> type:
    """The class of fused instances of a class: its subclass, which by all that shows is the class itself.

    Args:
      stock: the class.
      mixin: of its family.
    """
    known: type
    for known in type.__subclasses__(stock):
        if mixin in known.__bases__:
            return known
    disguise = {name: getattr(stock, name) for name in ("__module__", "__qualname__", "__doc__")}
    # Keras finds the name to save an optimizer under by its `__class__`.
    return type(stock)(stock.__name__, (mixin, _Fused, stock), {**disguise, "__class__": property(lambda self: stock)})


def is_fused(optimizer) -> bool:
    """Whether `fuse` changed this optimizer."""
    return isinstance(optimizer, _Fused)


def fuse(optimizer: _Optimizer, *, shard_slots: bool = False) -> _Optimizer:
    """Makes an optimizer take fused steps, for loops that are not `minimize`.

    For `model.compile(optimizer=fusemin.fuse(optimizer))` and `model.fit`, and for loops of your own with
    `tf.GradientTape`, eager or in a `tf.function`. The optimizer is changed in place, and only its step: the method
    `apply` of `keras.optimizers`, and `apply_gradients` of the others. Class, config, hyperparameters and variables
    stay the same. So do checkpoints, `.keras` files and SavedModels for serving, which load where fusemin is not
    installed. Only a SavedModel with a signature that trains contains fusemin's op: to load it, `import fusemin` first,
    or save it inside of `fusemin.stock()`. An optimizer that is loaded, copied or made from the config is not fused:
    call `fuse` again.

    At each step the op is used if it can be. Otherwise, for an option or an optimizer that is not fused, or a gradient
    that is None, the optimizer's own method is, with the same result. Where XLA compiles the step, the op is compiled
    with it, unless a gradient is sparse. `fusemin.explain(optimizer, variables)` and the debug log of the logger
    "fusemin" say which of the two is used, and why.

    Under a `tf.distribute.MirroredStrategy` or `MultiWorkerMirroredStrategy` TensorFlow sums the gradients over the
    replicas once a step, and then one op updates the variables of each replica. Optimizers of `tf.compat.v1.train`, and
    all optimizers under other strategies with several devices, take their own step.

    Args:
      optimizer: an optimizer of `keras.optimizers`, `tf_keras.optimizers`, `tf_keras.optimizers.legacy` or
        `tf.compat.v1.train`, or of `fusemin.optimizers`. In a LossScaleOptimizer the inner optimizer is fused, in a
        MultiOptimizer all that it knows; if a function chooses them, `build` it first. Any other object with
        `apply_gradients`, and a subclass that overrides a method that makes up the step, is left as it is.
      shard_slots: under a MirroredStrategy, whether each replica holds and updates the slots (what the optimizer keeps
        for each variable) of its own part of the variables only, so that each of `n` replicas needs an n-th of the
        memory for slots (ZeRO-1, Rajbhandari et al. 2020). Call `fuse` in the strategy's scope, before the optimizer is
        built. Variables are shared out whole, the largest first. Gradients are summed where their variable is updated,
        and the new values go to the others. Results are those without it. Checkpoints hold the slots whole, and load
        where fusemin is not installed. What would leave the step to the optimizer is an error.

    Returns:
      The optimizer.

    Raises:
      ValueError: `shard_slots` is True, and `fuse` is called outside of a MirroredStrategy's scope, or the optimizer is
        built already, or is not one of `keras.optimizers` or `fusemin.optimizers` that is fused.
      TypeError: `optimizer` has no `apply_gradients`, or is a class. Later, by `apply_gradients`: an optimizer of
        `tf.compat.v1.train` was given a gradient of another dtype than its variable, which the message names. Without
        `fuse` that would abort the process.

    >>> import keras, tensorflow as tf, fusemin
    >>> x = tf.Variable([1.0, 2.0])
    >>> optimizer = fusemin.fuse(keras.optimizers.SGD(learning_rate=0.25))
    >>> for _ in range(3):
    ...     with tf.GradientTape() as tape:
    ...         loss = tf.reduce_sum(x**2)
    ...     count = optimizer.apply_gradients(zip(tape.gradient(loss, [x]), [x]))
    >>> x.numpy().tolist(), int(count)
    ([0.125, 0.25], 3)

    In a Keras model:

    >>> model = keras.Sequential([keras.layers.Dense(1)])
    >>> model.compile(optimizer=fusemin.fuse(keras.optimizers.Adam()), loss="mse")
    >>> history = model.fit(tf.ones([8, 2]), tf.ones([8, 1]), epochs=2, verbose=0)
    >>> len(history.history["loss"])
    2
    """
    check_optimizer(optimizer)
    if shard_slots:
        _check_can_shard(optimizer)
    if is_fused(optimizer):
        return optimizer
    for inner in inner_optimizers(optimizer):
        fuse(inner, shard_slots=shard_slots)
    reason = find_class_reason(optimizer)
    family = find_family(optimizer)
    if reason is not None or family is None:
        _LOGGER.debug("%s is left as it is: %s", type(optimizer).__name__, reason)
        return optimizer
    fused = _fused_class(type(optimizer), family.mixin)
    # Past `__setattr__`: some optimizers have their own.
    object.__setattr__(optimizer, "__class__", fused)
    if shard_slots and family.inner(optimizer) is optimizer:
        vars(optimizer)[SHARDS_ATTRIBUTE] = Shards(tf.distribute.get_strategy())
    return optimizer


def _check_can_shard(optimizer) -> None:
    """Raises a ValueError if the slots of an optimizer cannot be in parts."""
    name, family = type(optimizer).__name__, find_family(optimizer)
    reason = find_class_reason(optimizer)
    if not isinstance(tf.distribute.get_strategy(), tf.distribute.MirroredStrategy):
        reason = "this is outside of the scope of a tf.distribute.MirroredStrategy; make and `fuse` the optimizer in it"
    elif family is None or not family.shards_slots:
        reason = f"{name} is not of `keras.optimizers` or `fusemin.optimizers`"
    elif optimizer.built:
        reason = f"{name} is built, and has its slots on every replica; call `fuse` before `build` and before a step"
    elif is_fused(optimizer) and shards_of(family.inner(optimizer)) is None:
        reason = f"{name} is fused already, without `shard_slots`"
    if reason is not None:
        raise ValueError(f"`shard_slots` is not possible: {reason}")
