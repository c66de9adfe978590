"""`tf_keras.optimizers.legacy`, the OptimizerV2 classes, whose updates are C++ kernels of TensorFlow."""

import tensorflow as tf

from fusemin.constraints import constraint
from fusemin.families.clipping import CLIPPING, clipping_options
from fusemin.families.family import STEPS_ATTRIBUTE, Adapter, Family, SparseUpdate
from fusemin.families.keras_adapters import NADAM_DECAY, one_dtype, rmsprop_rule
from fusemin.families.numbers import through_float32


def _hyper(optimizer, name):
    """A hyperparameter as the optimizer holds it: a variable, or what gives a tensor."""
    value = optimizer._hyper[name]
    return value if isinstance(value, tf.Variable) else lambda dtype: optimizer._get_hyper(name, dtype)


def _ftrl_rule(optimizer):
    power = optimizer._hyper["learning_rate_power"]
    if isinstance(power, tf.Variable):
        with tf.init_scope():
            power = float(power.numpy()) if tf.executing_eagerly() else None
    return "ftrl_kernel" if power == -0.5 else "ftrl_power_kernel"


def _touched(optimizer):
    return SparseUpdate("touched")


_ADAPTERS = {
    "SGD": Adapter(
        rule=lambda o: ("sgd_nesterov" if o.nesterov else "sgd_momentum") if o._momentum else "sgd",
        slots={"momentum": "momentum"},
        hyperparameters=lambda o: {"momentum": _hyper(o, "momentum")},
        sparse=_touched,
    ),
    "Adam": Adapter(
        rule=lambda o: "amsgrad_kernel" if o.amsgrad else "adam",
        slots={"momentum": "m", "velocity": "v", "velocity_hat": "vhat"},
        hyperparameters=lambda o: {
            "beta_1": _hyper(o, "beta_1"),
            "beta_2": _hyper(o, "beta_2"),
            "epsilon": o.epsilon,
            "beta_1_power_base": _hyper(o, "beta_1"),
            "beta_2_power_base": _hyper(o, "beta_2"),
        },
        sparse=lambda o: SparseUpdate(rule="amsgrad_decayed" if o.amsgrad else "adam_decayed"),
    ),
    "Adamax": Adapter(
        rule=lambda o: "adamax_kernel",
        slots={"momentum": "m", "norm": "v"},
        hyperparameters=lambda o: {
            "beta_1": _hyper(o, "beta_1"),
            "beta_2": _hyper(o, "beta_2"),
            "epsilon": o.epsilon,
            "beta_1_power_base": _hyper(o, "beta_1"),
        },
        sparse=lambda o: SparseUpdate("touched", rule="adamax_decayed"),
    ),
    "Nadam": Adapter(
        rule=lambda o: "nadam_legacy",
        slots={"momentum": "m", "velocity": "v"},
        scalars={"momentum_product": "_m_cache"},
        hyperparameters=lambda o: {
            # The argument `decay` is the exponent here, and leaves the learning rate alone.
            "learning_rate": _hyper(o, "learning_rate"),
            "beta_1": _hyper(o, "beta_1"),
            "beta_2": _hyper(o, "beta_2"),
            "epsilon": o.epsilon,
            "decay": through_float32(NADAM_DECAY),
            "decay_exponent": o._initial_decay,
            "product_beta_1": _hyper(o, "beta_1"),
            "product_decay": through_float32(NADAM_DECAY),
        },
        unsupported=one_dtype,
        sparse=lambda o: SparseUpdate("slots_of_every"),
    ),
    "RMSprop": Adapter(
        # With momentum stock is a kernel of TensorFlow, which has epsilon inside the root.
        rule=lambda o: rmsprop_rule(o.centered, o._momentum, kernel=o._momentum),
        slots={"velocity": "rms", "momentum": "momentum", "average_gradient": "mg"},
        hyperparameters=lambda o: {
            "rho": _hyper(o, "rho"),
            "momentum": _hyper(o, "momentum"),
            "epsilon": o.epsilon if o._momentum else 0.0,
            "epsilon_outside": 0.0 if o._momentum else o.epsilon,
        },
        sparse=lambda o: (
            SparseUpdate("touched", rule=rmsprop_rule(o.centered, momentum=True))
            if o._momentum
            else SparseUpdate("slots_of_every")
        ),
    ),
    "Adagrad": Adapter(
        rule=lambda o: "adagrad",
        slots={"accumulator": "accumulator"},
        hyperparameters=lambda o: {"epsilon": 0.0, "epsilon_outside": o.epsilon},
        sparse=_touched,
    ),
    "Adadelta": Adapter(
        rule=lambda o: "adadelta",
        slots={"accumulated_gradient": "accum_grad", "accumulated_displacement": "accum_var"},
        hyperparameters=lambda o: {"rho": _hyper(o, "rho"), "epsilon": o.epsilon},
        sparse=_touched,
    ),
    "Ftrl": Adapter(
        # The power is looked at once, when the step is traced.
        rule=_ftrl_rule,
        slots={"accumulator": "accumulator", "linear": "linear"},
        hyperparameters=lambda o: {
            "learning_rate_power": _hyper(o, "learning_rate_power"),
            "l1": _hyper(o, "l1_regularization_strength"),
            "l2": _hyper(o, "l2_regularization_strength"),
            "l2_shrinkage": through_float32(o._l2_shrinkage_regularization_strength),
            "beta": _hyper(o, "beta"),
        },
        # With sparse gradients the kernels are of the form that Keras has.
        sparse=lambda o: SparseUpdate("touched", rule=_ftrl_rule(o).replace("_kernel", "")),
    ),
}


# What makes up a step of stock. The op stands for all of it, so something new in it would be left out.
_RELIED_ON = {
    "tf_keras.src.optimizers.legacy.optimizer_v2.OptimizerV2.apply_gradients": {
        "_name",
        "_create_all_weights",
        "_prepare",
        "_transform_unaggregated_gradients",
        "_aggregate_gradients",
        "_transform_gradients",
        "_distributed_apply",
    },
    "tf_keras.src.optimizers.legacy.optimizer_v2.OptimizerV2._distributed_apply": {
        "_dense_apply_args",
        "_name",
        "_resource_apply_dense",
        "_resource_apply_sparse_duplicate_indices",
        "_sparse_apply_args",
        "iterations",
    },
}


class _Mixin:
    def apply_gradients(self, grads_and_vars, name=None, experimental_aggregate_gradients=True):
        grads_and_vars = list(grads_and_vars)
        if self._take_fused_pairs(grads_and_vars, summed=not experimental_aggregate_gradients):
            return self.iterations if tf.executing_eagerly() else tf.no_op()
        return super().apply_gradients(grads_and_vars, name, experimental_aggregate_gradients)

    def __deepcopy__(self, memo):
        # That of the legacy optimizers does not reduce.
        copied = super().__deepcopy__(memo)
        vars(copied).pop(STEPS_ATTRIBUTE, None)
        return copied


class TfKerasLegacy(Family):
    name = "tf_keras legacy"
    module = "tf_keras.src.optimizers.legacy"
    adapters = _ADAPTERS
    relied_on = _RELIED_ON
    mixin = _Mixin
    updates_replicas = True
    options = ("clipvalue", "clipnorm", "global_clipnorm", "decay", "constraints")
    sparse_except = ("constraints",)
    builds_in_functions = True
    hooks = frozenset(
        {
            "apply_gradients",
            "_aggregate_gradients",
            "_distributed_apply",
            "_transform_gradients",
            "_transform_unaggregated_gradients",
            "_resource_apply_dense",
            "_resource_apply_sparse",
            "_resource_apply_sparse_duplicate_indices",
            "_prepare",
            "_prepare_local",
            "_decayed_lr",
            "_get_hyper",
        }
    )

    def dependencies(self, optimizer):
        # What is set by its name goes into a dict of the optimizer.
        hyper = {("_hyper", name): value for name, value in optimizer._hyper.items()}
        return super().dependencies(optimizer) | hyper

    def unsupported_option(self, optimizer, variables):
        if optimizer.gradient_transformers:
            return "gradient_transformers"
        clipping = [name for name in CLIPPING if getattr(optimizer, name) is not None]
        # Unlike the other families, this one applies all of them, one after the other.
        return " and ".join(clipping) if len(clipping) > 1 else None

    def unsupported_sparse(self, optimizer, variable):
        return f"a constraint of '{variable.name}'" if constraint(variable) is not None else None

    def option_numbers(self, optimizer):
        return clipping_options(optimizer)

    def build(self, optimizer, variables):
        with tf.name_scope(optimizer._name):
            optimizer._create_all_weights(variables)

    def slot(self, optimizer, name, variable):
        return optimizer.get_slot(variable, name)

    def scalar(self, optimizer, name):
        return getattr(optimizer, name)

    def iterations(self, optimizer):
        return optimizer.iterations

    def learning_rate(self, optimizer):
        learning_rate = optimizer._hyper["learning_rate"]
        if isinstance(learning_rate, tf.Variable) and not optimizer._initial_decay > 0.0:
            return learning_rate
        return optimizer._decayed_lr
