"""`keras.optimizers` of Keras 3, TensorFlow back end."""

import dataclasses

import numpy as np
import tensorflow as tf

from fusemin import _compat
from fusemin.families.clipping import clipping_options
from fusemin.families.family import Adapter, Family, SparseUpdate, StepOptions, UnknownVariableError
from fusemin.families.keras_adapters import ADAM, ALIKE, lion, momentum_rule, nadam
from fusemin.families.numbers import through_float32


def _unwrap(variable):
    """The `tf.Variable` inside a Keras variable."""
    return variable if isinstance(variable, tf.Variable) else variable.value


def _values(gradient) -> tf.Tensor:
    return gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient


def _scaled(gradient, scale: tf.Tensor):
    values = _values(gradient)
    # A scale may be larger than what float16 holds, where what is scaled is not.
    wide = values.dtype if values.dtype.size >= scale.dtype.size else scale.dtype
    values = tf.cast(tf.cast(values, wide) * tf.cast(scale, wide), values.dtype)
    if not isinstance(gradient, tf.IndexedSlices):
        return values
    return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)


_ADAPTERS = ALIKE | {
    "SGD": Adapter(
        # Without momentum Keras creates no slot.
        rule=lambda o: momentum_rule(o) if o.momentum != 0 else "sgd",
        slots={"momentum": "momentums"},
        hyperparameters=lambda o: {"momentum": through_float32(o.momentum)},
        sparse=lambda o: SparseUpdate("every" if o.momentum != 0 else "touched"),
    ),
    "Lamb": dataclasses.replace(ADAM, rule=lambda o: "lamb"),
    # The product is updated by operators on the Keras variable, which take a number as it is.
    "Nadam": nadam(through_product=float),
    "Lion": lion("_momentums"),
}


# What makes up a step of stock. The op stands for all of it, so something new in it would be left out.
_RELIED_ON = {
    "keras.src.optimizers.base_optimizer.BaseOptimizer.apply": {
        "built",
        "build",
        "name",
        "_trainable_variables_indices",
        "_trainable_variables",
        "_check_variables_are_known",
        "_filter_empty_gradients",
        "_overwrite_variables_directly_with_gradients",
        "loss_scale_factor",
        "_backend_apply_gradients",
        "_iterations",
    },
    "keras.src.optimizers.base_optimizer.BaseOptimizer.apply_gradients": {
        "_iterations",
        "apply",
    },
    "keras.src.optimizers.base_optimizer.BaseOptimizer._backend_apply_gradients": {
        "_trainable_variables",
        "_iterations",
        "gradient_accumulation_steps",
        "iterations",
        "_accumulated_gradients",
        "_get_variable_index",
        "_clip_gradients",
        "_apply_weight_decay",
        "_backend_update_step",
        "learning_rate",
        "_backend_reset_gradient_accumulators",
        "_backend_increment_gradient_accumulators",
        "use_ema",
        "_update_model_variables_moving_average",
        "ema_overwrite_frequency",
        "_overwrite_model_variables_with_average_value",
    },
    "keras.src.optimizers.optimizer.Optimizer._backend_update_step": {
        "_all_reduce_sum_gradients",
        "_distributed_tf_update_step",
        "_distribution_strategy",
    },
    "keras.src.optimizers.optimizer.Optimizer._distributed_tf_update_step": {
        "update_step",
    },
}


class _Mixin:
    # `apply_gradients` and LossScaleOptimizer call this.
    def apply(self, grads, trainable_variables=None):
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
        variables = self._trainable_variables if trainable_variables is None else trainable_variables
        if len(grads) == 0 or len(grads) != len(variables) or not self._take_fused(grads, variables):
            super().apply(grads, trainable_variables)

    def build(self, variables):
        if not self.built:
            self._assign_owners(variables)
        super().build(variables)

    def add_variable_from_reference(self, reference_variable, *args, **kwargs):
        with self._beside_owner(reference_variable):
            return super().add_variable_from_reference(reference_variable, *args, **kwargs)


class Keras3(Family):
    name = "keras"
    module = "keras.src.optimizers"
    adapters = _ADAPTERS
    relied_on = _RELIED_ON
    mixin = _Mixin
    updates_replicas = True
    shards_slots = True
    options = (
        "clipvalue",
        "clipnorm",
        "global_clipnorm",
        "weight_decay",
        "use_ema",
        "gradient_accumulation_steps",
        "loss_scale_factor",
        "LossScaleOptimizer",
        "constraints",
    )
    sparse_except = ("loss_scale_factor",)
    hooks = frozenset(
        {
            "apply",
            "apply_gradients",
            "update_step",
            "learning_rate",
            "iterations",
            "_get_current_learning_rate",
            "_backend_apply_gradients",
            "_backend_update_step",
            "_distributed_tf_update_step",
            "_clip_gradients",
            "_apply_weight_decay",
            "_tf_apply",
            "_common_apply",
            "check_finite",
            "_filter_empty_gradients",
            "_overwrite_variables_directly_with_gradients",
            "assign",
            "assign_add",
            "assign_sub",
        }
    )

    def inner(self, optimizer):
        # Quicker than to ask for the class first, and asked several times a step.
        if "inner_optimizer" not in vars(optimizer):
            return optimizer
        is_wrapper = self.library_class(optimizer).__name__ == "LossScaleOptimizer"
        return optimizer.inner_optimizer if is_wrapper else optimizer

    def wrapped(self, optimizer):
        if self.library_class(optimizer).__name__ == "MultiOptimizer":
            return list(optimizer.optimizers)
        return super().wrapped(optimizer)

    def unwrap(self, variable):
        value = getattr(variable, "value", None)  # Of a `tf.Variable` a method.
        return value if isinstance(value, tf.Variable) else None

    def dependencies(self, optimizer):
        dependencies, inner = super().dependencies(optimizer), self.inner(optimizer)
        if inner is not optimizer:
            dependencies |= {("inner", name): value for name, value in super().dependencies(inner).items()}
        return dependencies

    def find_step_reason(self, optimizer, variables):
        if _compat.is_in_keras_stateless_scope():
            return "a keras.StatelessScope is open, where nothing may be written to variables"
        if any(optimizer._overwrite_variable_with_gradient(v) for v in variables):
            return "there is a variable of float8 training, whose gradient is its new value"
        return None

    def unsupported_option(self, optimizer, variables):
        optimizer = self.inner(optimizer)
        # Keras averages all variables that the optimizer was built for, whether or not they have a gradient.
        if optimizer.use_ema and optimizer.built:
            known = {optimizer._var_key(v) for v in optimizer._trainable_variables}
            if known != {optimizer._var_key(v) for v in variables}:
                return "use_ema for other variables than these"
        return None

    def unsupported_sparse(self, optimizer, variable):
        # Keras divides by the operator `/`, which IndexedSlices have not.
        return "loss_scale_factor" if self.inner(optimizer).loss_scale_factor is not None else None

    def sparse(self, optimizer, adapter):
        # Keras sums slices of one row only where a dense tensor meets them: a square or magnitude comes before. But
        # clipping by the global norm is an operator `*`, which makes the gradient dense at once.
        inner = self.inner(optimizer)
        clips_globally = "global_clipnorm" in clipping_options(inner)
        return dataclasses.replace(adapter.sparse(inner), separate_duplicates=not clips_globally)

    def strategy(self, optimizer):
        return optimizer._distribution_strategy

    def options_before_sum(self, optimizer):
        inner = self.inner(optimizer)
        clips = clipping_options(inner)
        # What is accumulated is a sum over replicas, and what is scaled by powers of 2 may be summed as it is.
        if inner.gradient_accumulation_steps or (inner is not optimizer and not clips):
            return ()
        return (*([] if inner.loss_scale_factor is None else ["loss_scale_factor"]), *clips)

    def prepare_on_replica(self, optimizer, gradients):
        inner, names = self.inner(optimizer), self.options_before_sum(optimizer)
        if not names:
            # A tensor that all replicas were given is not summed, and here stock has computed something of it.
            is_computed = inner is not optimizer or inner.gradient_accumulation_steps
            return [tf.identity(g) for g in gradients] if is_computed else gradients
        prepared = gradients
        if inner is not optimizer:
            # Clipped, a gradient may be finite that was not: what is not finite stays so. The op takes the scale off.
            scale = _unwrap(optimizer.dynamic_scale).read_value()
            is_finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(_values(g))) for g in gradients])
            prepared = [_scaled(g, 1.0 / scale) for g in prepared]
        if "loss_scale_factor" in names:
            prepared = [g / inner.loss_scale_factor for g in prepared]
        # Without an option of clipping this returns them.
        prepared = list(inner._clip_gradients(prepared))
        if inner is not optimizer:
            scale = tf.where(is_finite, scale, np.nan)
            prepared = [_scaled(g, scale) for g in prepared]
        return prepared

    def weight_decay(self, optimizer) -> float | None:
        """What Keras takes from parameters before the rule moves them."""
        return optimizer.weight_decay

    def option_numbers(self, optimizer):
        wrapper, optimizer = optimizer, self.inner(optimizer)
        options = clipping_options(optimizer)
        if self.weight_decay(optimizer):
            options["weight_decay"] = through_float32(self.weight_decay(optimizer))
        if optimizer.use_ema:
            options["ema_momentum"] = optimizer.ema_momentum
            options["ema_starts_at_param"] = 1.0
            if optimizer.ema_overwrite_frequency:
                options["ema_overwrite_frequency"] = optimizer.ema_overwrite_frequency
        if optimizer.gradient_accumulation_steps:
            options["gradient_accumulation_steps"] = optimizer.gradient_accumulation_steps
        if optimizer.loss_scale_factor is not None:
            options["loss_scale_factor"] = optimizer.loss_scale_factor
        if wrapper is not optimizer:
            options["dynamic_growth_steps"] = wrapper.dynamic_growth_steps
        return options

    def bound_options(self, optimizer, variables):
        options = self.option_numbers(optimizer)
        wrapper, optimizer = optimizer, self.inner(optimizer)
        indices = [optimizer._get_variable_index(v) for v in variables]
        decays, averages, accumulators, loss_scale = [], [], [], []
        if self.weight_decay(optimizer):
            decays = [optimizer._use_weight_decay(v) for v in variables]
        if optimizer.use_ema:
            averages = [_unwrap(optimizer._model_variables_moving_average[i]) for i in indices]
        if optimizer.gradient_accumulation_steps:
            accumulators = [_unwrap(optimizer._accumulated_gradients[i]) for i in indices]
        if wrapper is not optimizer:
            loss_scale = [_unwrap(wrapper.dynamic_scale), _unwrap(wrapper.step_counter)]
        return StepOptions(options, decays, averages, accumulators, loss_scale)

    def check_variables(self, optimizer, variables):
        if optimizer.built:
            for variable in variables:
                if optimizer._var_key(variable) not in optimizer._trainable_variables_indices:
                    raise UnknownVariableError(variable)

    def build(self, optimizer, variables):
        if not optimizer.built:
            # As in `apply`, so that the slots get the names that stock gives them.
            with _compat.keras_name_scope(optimizer.name, caller=optimizer):
                optimizer.build(variables)

    def slot(self, optimizer, name, variable):
        return _unwrap(getattr(optimizer, name)[optimizer._get_variable_index(variable)])

    def scalar(self, optimizer, name):
        return _unwrap(getattr(optimizer, name))

    def iterations(self, optimizer):
        return _unwrap(optimizer._iterations)

    def learning_rate(self, optimizer):
        learning_rate = optimizer._learning_rate
        if callable(learning_rate):  # A schedule too.
            return lambda dtype: tf.convert_to_tensor(optimizer.learning_rate)
        return _unwrap(learning_rate)
