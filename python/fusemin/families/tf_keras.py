"""`tf_keras.optimizers`, the optimizers of Keras 2."""

import dataclasses

import tensorflow as tf

from fusemin.families.clipping import clipping_options
from fusemin.families.family import Adapter, Family, SparseUpdate, StepOptions, UnknownVariableError
from fusemin.families.keras_adapters import ADADELTA, ALIKE, lion, momentum_rule, nadam
from fusemin.families.numbers import through_float32


def _nadam_unsupported(optimizer, variables):
    # In a graph stock advances the product with each variable but one: it compares a Python number, fixed at tracing,
    # to the iterations in order to know whether another variable of the same step has done it.
    if len(variables) > 1:
        return "a momentum product that in a graph advances once for each variable"
    return None


_ADAPTERS = ALIKE | {
    "SGD": Adapter(
        # The slot exists and is written even where the momentum is 0.
        rule=momentum_rule,
        slots={"momentum": "momentums"},
        hyperparameters=lambda o: {"momentum": through_float32(o.momentum)},
    ),
    "Nadam": dataclasses.replace(nadam(through_product=through_float32), unsupported=_nadam_unsupported),
    "Lion": dataclasses.replace(lion("momentums"), sparse=lambda o: SparseUpdate(rule="lion_buffered")),
    "Adadelta": dataclasses.replace(ADADELTA, sparse=lambda o: SparseUpdate(rule="adadelta_by_difference")),
}


# What makes up a step of stock. The op stands for all of it, so something new in it would be left out.
_RELIED_ON = {
    "tf_keras.src.optimizers.optimizer.Optimizer.apply_gradients": {
        "_mesh",
        "_run_with_dtensor",
        "apply_gradients",
        "aggregate_gradients",
    },
    "tf_keras.src.optimizers.optimizer._BaseOptimizer.apply_gradients": {
        "build",
        "name",
        "_iterations",
        "_clip_gradients",
        "_apply_weight_decay",
        "_compute_current_learning_rate",
        "_deduplicate_sparse_grad",
        "_internal_apply_gradients",
    },
    "tf_keras.src.optimizers.optimizer.Optimizer._distributed_apply_gradients_fn": {
        "iterations",
        "use_ema",
        "_update_model_variables_moving_average",
        "ema_overwrite_frequency",
        "_overwrite_model_variables_with_average_value",
        "jit_compile",
        "_update_step_xla",
        "_update_step",
        "_var_key",
    },
}


class _Mixin:
    def apply_gradients(self, grads_and_vars, name=None, skip_gradients_aggregation=False, **kwargs):
        grads_and_vars = list(grads_and_vars)
        summed = skip_gradients_aggregation or not kwargs.get("experimental_aggregate_gradients", True)
        if self._take_fused_pairs(grads_and_vars, summed):
            return self.iterations
        return super().apply_gradients(grads_and_vars, name, skip_gradients_aggregation, **kwargs)


class TfKeras(Family):
    name = "tf_keras"
    module = "tf_keras.src.optimizers"
    adapters = _ADAPTERS
    relied_on = _RELIED_ON
    mixin = _Mixin
    updates_replicas = True
    options = ("clipvalue", "clipnorm", "global_clipnorm", "weight_decay", "use_ema", "constraints")
    hooks = frozenset(
        {
            "apply_gradients",
            "aggregate_gradients",
            "update_step",
            "learning_rate",
            "iterations",
            "_update_step",
            "_update_step_xla",
            "_internal_apply_gradients",
            "_distributed_apply_gradients_fn",
            "_clip_gradients",
            "_deduplicate_sparse_grad",
            "_apply_weight_decay",
            "_compute_current_learning_rate",
        }
    )

    def unwrap(self, variable):
        # Of a mixed-precision policy, for the legacy optimizers too.
        is_cast = type(variable).__module__ == "tf_keras.src.mixed_precision.autocast_variable"
        return variable._variable if is_cast else None

    def unsupported_option(self, optimizer, variables):
        if getattr(optimizer, "adaptive_epsilon", False):
            return "adaptive_epsilon"
        if getattr(optimizer, "_mesh", None):
            return "a DTensor mesh"
        return None

    def option_numbers(self, optimizer):
        options = clipping_options(optimizer)
        if optimizer.weight_decay:
            options["weight_decay"] = through_float32(optimizer.weight_decay)
        if optimizer.use_ema:
            options["ema_momentum"] = optimizer.ema_momentum
            if optimizer.ema_overwrite_frequency:
                options["ema_overwrite_frequency"] = optimizer.ema_overwrite_frequency
        return options

    def bound_options(self, optimizer, variables):
        decays, averages = [], []
        if optimizer.weight_decay:
            decays = [optimizer._use_weight_decay(v) for v in variables]
        if optimizer.use_ema:
            averages = [self.slot(optimizer, "_model_variables_moving_average", v) for v in variables]
        return StepOptions(self.option_numbers(optimizer), decays, averages)

    def check_variables(self, optimizer, variables):
        if getattr(optimizer, "_built", False):
            for variable in variables:
                if optimizer._var_key(variable) not in optimizer._index_dict:
                    raise UnknownVariableError(variable)

    def build(self, optimizer, variables):
        # As in `apply_gradients`, so that the slots get the names that stock gives them.
        with tf.name_scope(optimizer.name or "optimizer"):
            optimizer.build(variables)

    def slot(self, optimizer, name, variable):
        return getattr(optimizer, name)[optimizer._index_dict[optimizer._var_key(variable)]]

    def scalar(self, optimizer, name):
        return getattr(optimizer, name)

    def iterations(self, optimizer):
        return optimizer.iterations

    def learning_rate(self, optimizer):
        if hasattr(optimizer, "_current_learning_rate"):
            # A schedule: stock evaluates it into this variable at the beginning of a step.
            def evaluate(dtype):
                optimizer._compute_current_learning_rate()
                return optimizer._current_learning_rate.read_value()

            return evaluate
        return optimizer._learning_rate
