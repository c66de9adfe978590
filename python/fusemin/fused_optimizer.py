"""`fuse`: an optimizer whose own step is the fused op, for loops that are not `minimize`."""

import logging

import tensorflow as tf

from fusemin import families
from fusemin.arguments import check_optimizer
from fusemin.own_step import OwnStep

_LOGGER = logging.getLogger("fusemin")

# Where an optimizer holds its OwnStep.
_ATTRIBUTE = "_fusemin_own_step"


class _Fused:
    """Put before the class of an optimizer, so that the one method that makes up its step tries the op first.

    An instance is given such a class, and not an attribute that hides the method: a method knows its optimizer without
    a cycle, which would leave slots as large as the model to the garbage collector, and is right in a copy too.
    """

    def _take(self, gradients, variables, reason=None) -> bool:
        held = vars(self)
        own_step = held.get(_ATTRIBUTE)
        if own_step is None:
            # Past `__setattr__`, by which Keras tracks what a checkpoint holds.
            own_step = held.setdefault(_ATTRIBUTE, OwnStep())
        return own_step.take(self, gradients, variables, reason)

    def _take_pairs(self, grads_and_vars: list) -> bool:
        if not grads_and_vars:
            return False
        gradients, variables = zip(*grads_and_vars, strict=True)
        return self._take(gradients, variables)

    def __reduce_ex__(self, protocol):
        # A copy or a pickle is of the optimizer as it was before `fuse`, so it loads without fusemin.
        stock = object.__new__(self.__class__)
        vars(stock).update({name: value for name, value in vars(self).items() if name != _ATTRIBUTE})
        return stock.__reduce_ex__(protocol)


class _FusedKeras3(_Fused):
    # `apply_gradients` and LossScaleOptimizer call this.
    def apply(self, grads, trainable_variables=None):
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
        variables = self._trainable_variables if trainable_variables is None else trainable_variables
        if len(grads) == 0 or len(grads) != len(variables) or not self._take(grads, variables, self._reason(variables)):
            super().apply(grads, trainable_variables)

    def _reason(self, variables) -> str | None:
        """Why the step is Keras' own, of what only Keras knows."""
        from keras.src import backend

        if backend.in_stateless_scope():
            return "a keras.StatelessScope is open, where nothing may be written to variables"
        if any(self._overwrite_variable_with_gradient(v) for v in variables):
            return "there is a variable of float8 training, whose gradient is its new value"
        return None


class _FusedTfKeras(_Fused):
    def apply_gradients(self, grads_and_vars, name=None, skip_gradients_aggregation=False, **kwargs):
        grads_and_vars = list(grads_and_vars)
        if self._take_pairs(grads_and_vars):
            return self.iterations
        return super().apply_gradients(grads_and_vars, name, skip_gradients_aggregation, **kwargs)


class _FusedTfKerasLegacy(_Fused):
    def apply_gradients(self, grads_and_vars, name=None, experimental_aggregate_gradients=True):
        grads_and_vars = list(grads_and_vars)
        if self._take_pairs(grads_and_vars):
            return self.iterations if tf.executing_eagerly() else tf.no_op()
        return super().apply_gradients(grads_and_vars, name, experimental_aggregate_gradients)

    def __deepcopy__(self, memo):
        # That of the legacy optimizers does not reduce.
        copied = super().__deepcopy__(memo)
        vars(copied).pop(_ATTRIBUTE, None)
        return copied


class _FusedCompatV1(_Fused):
    def apply_gradients(self, grads_and_vars, global_step=None, name=None, skip_gradients_aggregation=False):
        grads_and_vars = list(grads_and_vars)
        if not self._take_pairs(grads_and_vars):
            families.check_gradients(self, [g for g, _ in grads_and_vars], [v for _, v in grads_and_vars])
            return super().apply_gradients(grads_and_vars, global_step, name, skip_gradients_aggregation)
        if global_step is not None:
            return global_step.assign_add(1, read_value=False)
        return None if tf.executing_eagerly() else tf.no_op()


_FUSED = {
    "keras": _FusedKeras3,
    "tf_keras": _FusedTfKeras,
    "tf_keras legacy": _FusedTfKerasLegacy,
    "tf.compat.v1.train": _FusedCompatV1,
}


def _fused_class(stock: type, mixin: type) -> type:
    """The class of fused instances of a class: its subclass, which by all that shows is the class itself."""
    for known in type.__subclasses__(stock):
        if mixin in known.__bases__:
            return known
    disguise = {name: getattr(stock, name) for name in ("__module__", "__qualname__", "__doc__")}
    # Keras finds the name to save an optimizer under by its `__class__`.
    return type(stock)(stock.__name__, (mixin, stock), {**disguise, "__class__": property(lambda self: stock)})


def inner_optimizers(optimizer) -> list:
    """The optimizers that a LossScaleOptimizer or a MultiOptimizer of Keras leaves its steps to."""
    inner = getattr(optimizer, "inner_optimizer", None)
    if inner is not None:
        return [inner]
    family = families.find_family(optimizer)
    is_multi = family is not None and family.library_class(optimizer).__name__ == "MultiOptimizer"
    return list(optimizer.optimizers) if is_multi else []


def is_fused(optimizer) -> bool:
    """Whether `fuse` changed this optimizer."""
    return isinstance(optimizer, _Fused)


def fuse(optimizer):
    """Makes an optimizer take its own steps by the fused op, for loops that are not `minimize`.

    For `model.compile(optimizer=fusemin.fuse(optimizer))` and `model.fit`, and for loops of your own with
    `tf.GradientTape`, eager or in a `tf.function`. The optimizer is changed in place: only its step, `apply` of
    `keras.optimizers` and `apply_gradients` of the others, is another. Class, config, hyperparameters and variables are
    the same, so checkpoints, `.keras` files and SavedModels that serve are, and load where fusemin is not installed.
    Only a SavedModel with a signature that trains holds the op: it loads after `import fusemin`, or is saved inside of
    `fusemin.stock()`. What is loaded, copied or made from the config is not fused: call `fuse` again.

    At each step the op is used if it can be, or else the optimizer's own method, with the same result: for an option
    or an optimizer that is not fused, a gradient that is None, or in a `tf.distribute` strategy. Where XLA compiles the
    step, the op is compiled with it, unless a gradient is sparse. `fusemin.explain(optimizer, variables)` and the debug
    log of the logger "fusemin" say which of the two it is, and why.

    Args:
      optimizer: an optimizer of `keras.optimizers`, `tf_keras.optimizers`, `tf_keras.optimizers.legacy` or
        `tf.compat.v1.train`. Of a LossScaleOptimizer the inner optimizer is fused, of a MultiOptimizer those that it
        knows: where a function chooses them, `build` it first. Any other object with `apply_gradients`, and a subclass
        that overrides a method that makes up the step, is left as it is.

    Returns:
      The optimizer.

    Raises:
      TypeError: `optimizer` has no `apply_gradients`, or is a class. Later, of `apply_gradients`: an optimizer of
        `tf.compat.v1.train` got a gradient of another dtype than the variable, which the message names; without `fuse`
        that would abort the process.

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
    if is_fused(optimizer):
        return optimizer
    for inner in inner_optimizers(optimizer):
        fuse(inner)
    reason = families.find_fallback_reason(optimizer, [])
    family = families.find_family(optimizer)
    if family is None or family.adapter(optimizer) is None or family.overridden(optimizer):
        _LOGGER.debug("%s is left as it is: %s", type(optimizer).__name__, reason)
        return optimizer
    fused = _fused_class(type(optimizer), _FUSED[family.name])
    # Past `__setattr__`: some optimizers have their own.
    object.__setattr__(optimizer, "__class__", fused)
    return optimizer
