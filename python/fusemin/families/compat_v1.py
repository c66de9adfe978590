"""`tf.compat.v1.train`, the optimizers of TensorFlow 1."""

import numbers

import numpy as np
import tensorflow as tf

from fusemin.constraints import constraint
from fusemin.families.family import Adapter, Family, SparseUpdate
from fusemin.families.keras_adapters import rmsprop_rule
from fusemin.families.numbers import through_float32


def _hyper(optimizer, name):
    """A constructor argument: number, variable, tensor, or a function that gives one of them."""
    value = getattr(optimizer, name)
    # A number of NumPy keeps its type where one of Python becomes float32.
    if isinstance(value, numbers.Number) and not isinstance(value, np.generic):
        return through_float32(value)
    if isinstance(value, tf.Variable):
        return value
    return lambda dtype: tf.convert_to_tensor(optimizer._call_if_callable(value))


def _ftrl_rule(optimizer):
    power = optimizer._learning_rate_power
    return "ftrl_kernel" if isinstance(power, numbers.Number) and power == -0.5 else "ftrl_power_kernel"


def _ftrl_l2(optimizer):
    """The L2 strength with beta in it. Stock adds them up before it knows the dtype of a parameter."""

    def add(dtype):
        rate = tf.maximum(optimizer._learning_rate, 1e-36)
        return tf.convert_to_tensor(optimizer._l2_regularization_strength + optimizer._beta / (2.0 * rate))

    return add


def _touched(optimizer):
    return SparseUpdate("touched")


_ADAPTERS = {
    "GradientDescentOptimizer": Adapter(rule=lambda o: "sgd", sparse=_touched),
    "MomentumOptimizer": Adapter(
        rule=lambda o: "momentum_nesterov" if o._use_nesterov else "momentum",
        slots={"momentum": "momentum"},
        hyperparameters=lambda o: {"momentum": _hyper(o, "_momentum")},
        sparse=_touched,
    ),
    "AdamOptimizer": Adapter(
        rule=lambda o: "adam_powers",
        slots={"momentum": "m", "velocity": "v"},
        scalars={"beta_1_power": "beta1_power", "beta_2_power": "beta2_power"},
        hyperparameters=lambda o: {
            "beta_1": _hyper(o, "_beta1"),
            "beta_2": _hyper(o, "_beta2"),
            "epsilon": _hyper(o, "_epsilon"),
        },
        sparse=lambda o: SparseUpdate(rule="adam_powers_decayed"),
    ),
    "RMSPropOptimizer": Adapter(
        # The slot of the momentum exists and is written even where the momentum is 0.
        rule=lambda o: rmsprop_rule(o._centered, momentum=True, kernel=True),
        slots={"velocity": "rms", "momentum": "momentum", "average_gradient": "mg"},
        hyperparameters=lambda o: {
            "rho": _hyper(o, "_decay"),
            "momentum": _hyper(o, "_momentum"),
            "epsilon": _hyper(o, "_epsilon"),
            "epsilon_outside": 0.0,
        },
        sparse=lambda o: SparseUpdate("touched", rule=rmsprop_rule(o._centered, momentum=True)),
    ),
    "AdagradOptimizer": Adapter(
        rule=lambda o: "adagrad",
        slots={"accumulator": "accumulator"},
        hyperparameters=lambda o: {"epsilon": 0.0, "epsilon_outside": 0.0},
        sparse=_touched,
    ),
    "AdadeltaOptimizer": Adapter(
        rule=lambda o: "adadelta",
        slots={"accumulated_gradient": "accum", "accumulated_displacement": "accum_update"},
        hyperparameters=lambda o: {"rho": _hyper(o, "_rho"), "epsilon": _hyper(o, "_epsilon")},
        sparse=_touched,
    ),
    "FtrlOptimizer": Adapter(
        rule=_ftrl_rule,
        slots={"accumulator": "accum", "linear": "linear"},
        hyperparameters=lambda o: {
            "learning_rate_power": _hyper(o, "_learning_rate_power"),
            "l1": _hyper(o, "_l1_regularization_strength"),
            "l2": _ftrl_l2(o),
            "l2_shrinkage": _hyper(o, "_l2_shrinkage_regularization_strength"),
            "beta": 0.0,
        },
        # With sparse gradients the kernels are of the form that Keras has.
        sparse=lambda o: SparseUpdate("touched", rule=_ftrl_rule(o).replace("_kernel", "")),
    ),
}


# What makes up a step of stock. The op stands for all of it, so something new in it would be left out.
_RELIED_ON = {
    "tensorflow.python.training.optimizer.Optimizer.apply_gradients": {
        "_name",
        "_prepare",
        "_distributed_apply",
        "_create_slots",
        "_finish",
    },
}


class _Mixin:
    def apply_gradients(self, grads_and_vars, global_step=None, name=None, skip_gradients_aggregation=False):
        grads_and_vars = list(grads_and_vars)
        if not self._take_fused_pairs(grads_and_vars):
            _check_gradients([g for g, _ in grads_and_vars], [v for _, v in grads_and_vars])
            return super().apply_gradients(grads_and_vars, global_step, name, skip_gradients_aggregation)
        if global_step is not None:
            return global_step.assign_add(1, read_value=False)
        return None if tf.executing_eagerly() else tf.no_op()


def _check_gradients(gradients, variables):
    # Its kernels take the memory of a variable for one of the gradient's type, and abort the process.
    for gradient, variable in zip(gradients, variables, strict=True):
        if gradient is None:
            continue
        dtype = tf.as_dtype(gradient.dtype if hasattr(gradient, "dtype") else tf.convert_to_tensor(gradient).dtype)
        if dtype != variable.dtype.base_dtype:
            raise TypeError(
                f"the gradient of variable '{variable.name}' is of {dtype.name}, the variable is of "
                f"{variable.dtype.name}; cast the gradient, tf.compat.v1.train optimizers do not"
            )


class CompatV1(Family):
    name = "tf.compat.v1.train"
    module = "tensorflow.python.training"
    adapters = _ADAPTERS
    relied_on = _RELIED_ON
    mixin = _Mixin
    sparse_except = ("constraints",)
    builds_in_functions = True
    hooks = frozenset(
        {
            "apply_gradients",
            "_apply_dense",
            "_resource_apply_dense",
            "_resource_apply_sparse",
            "_resource_apply_sparse_duplicate_indices",
            "_prepare",
            "_finish",
        }
    )

    def library_class(self, optimizer):
        # The module prefix holds much besides optimizers.
        return super().library_class(optimizer) if isinstance(optimizer, tf.compat.v1.train.Optimizer) else None

    def unsupported_sparse(self, optimizer, variable):
        return f"a constraint of '{variable.name}'" if constraint(variable) is not None else None

    def check_gradients(self, gradients, variables):
        _check_gradients(gradients, variables)

    def build(self, optimizer, variables):
        optimizer._create_slots(variables)

    def slot(self, optimizer, name, variable):
        return optimizer.get_slot(variable, name)

    def scalar(self, optimizer, name):
        with tf.init_scope():
            graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
            return optimizer._get_non_slot_variable(name, graph=graph)

    def learning_rate(self, optimizer):
        return _hyper(optimizer, "_lr" if hasattr(optimizer, "_lr") else "_learning_rate")
