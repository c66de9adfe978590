"""What `fuse` relies on in Keras and TensorFlow beyond their public interface.

A release that changes one of these facts fails here: read its source, change `fusemin.families`, `fusemin._compat` or
the fact.
"""

import ast
import importlib
import inspect
import textwrap

import keras
import pytest
import tensorflow as tf
import tf_keras
from keras.src import backend
from keras.src.optimizers.base_optimizer import BaseOptimizer
from tensorflow.python.training import optimizer as v1_module
from tf_keras.src.optimizers.legacy import optimizer_v2
from tf_keras.src.optimizers.optimizer import _BaseOptimizer

from fusemin import families
from fusemin.families import compat_v1, keras3, tf_keras_legacy
from fusemin.families import tf_keras as our_tf_keras


def _used(method) -> set[str]:
    """The attributes of `self`, and what is called on `super()`, that the source of a method names."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("self", "super()")
    }


# By the full name of a method what it uses, in the module of its family.
_STEPS = {name: used for family in families.families() for name, used in family.relied_on.items()}


def _find(name: str):
    """A method by its full name."""
    module, of_class, method = name.rsplit(".", 2)
    return getattr(getattr(importlib.import_module(module), of_class), method)


@pytest.mark.parametrize("name", _STEPS)
def test_what_makes_up_a_step(name):
    assert _used(_find(name)) == _STEPS[name]


def test_order_of_a_keras_step():
    """Constraints after the update; the count of steps last, and counted even if a constraint reads it."""
    source = inspect.getsource(BaseOptimizer.apply)
    parts = [
        "_filter_empty_gradients(",
        "_overwrite_variables_directly",
        "_backend_apply_gradients(",
        "constraint(",
        "assign_add(1)",
    ]
    positions = [source.index(part) for part in parts]
    assert positions == sorted(positions)


@pytest.mark.parametrize(
    ("ours", "stock"),
    [
        (keras3.Keras3.mixin.apply, keras.optimizers.Adam.apply),
        (our_tf_keras.TfKeras.mixin.apply_gradients, tf_keras.optimizers.Adam.apply_gradients),
        (tf_keras_legacy.TfKerasLegacy.mixin.apply_gradients, tf_keras.optimizers.legacy.Adam.apply_gradients),
        (compat_v1.CompatV1.mixin.apply_gradients, tf.compat.v1.train.AdamOptimizer.apply_gradients),
    ],
)
def test_signatures(ours, stock):
    assert inspect.signature(ours) == inspect.signature(stock)


def test_everything_goes_through_the_one_method():
    """The paths by which Keras itself takes a step."""
    scaled = inspect.getsource(keras.optimizers.LossScaleOptimizer._stateful_handle_finite_grads)
    assert "self.inner_optimizer.apply(" in scaled
    from tf_keras.src.mixed_precision import loss_scale_optimizer

    for scaling in (loss_scale_optimizer.LossScaleOptimizerV3, loss_scale_optimizer.LossScaleOptimizer):
        assert "self._optimizer.apply_gradients(" in inspect.getsource(scaling._apply_gradients)
    for minimize in (_BaseOptimizer.minimize, optimizer_v2.OptimizerV2.minimize, v1_module.Optimizer.minimize):
        assert "apply_gradients" in _used(minimize)
    assert "self.optimizer.apply_gradients(" in inspect.getsource(keras.Model.train_step)
    assert "self.optimizer.minimize(" in inspect.getsource(tf_keras.Model.train_step)


def test_serialization_asks_for_the_class_by_attribute():
    """`obj.__class__`, which of a fused optimizer is the stock class, and not `type(obj)`."""
    from keras.src.saving import serialization_lib
    from tf_keras.src.saving import serialization_lib as tf_keras_lib

    for library in (serialization_lib, tf_keras_lib):
        source = inspect.getsource(library.serialize_keras_object)
        assert "obj.__class__" in source
        # The one use of `type` is to find NumPy's numbers and to word an error.
        assert source.count("type(obj)") <= 2


def test_private_parts():
    """Attributes and functions that are not public."""
    optimizer = keras.optimizers.Adam()
    assert optimizer._trainable_variables == []
    assert optimizer._overwrite_variable_with_gradient(tf.Variable(1.0)) is False
    assert backend.in_stateless_scope() is False
    with keras.StatelessScope():
        assert backend.in_stateless_scope() is True
    from tf_keras.src.mixed_precision import autocast_variable

    x = tf.Variable(1.0)
    assert autocast_variable.create_autocast_variable(x)._variable is x
    assert type(autocast_variable.create_autocast_variable(x)).__module__ == autocast_variable.__name__
    # Graphs that order what has side effects.
    ordered = []
    tf.function(lambda: ordered.append(tf.compat.v1.get_default_graph()._add_control_dependencies))()
    with tf.Graph().as_default() as graph:
        ordered.append(graph._add_control_dependencies)
    assert ordered == [True, False]
    function = tf.function(lambda x: x + 1).get_concrete_function(tf.TensorSpec([]))
    assert list(inspect.signature(function._call_flat).parameters) == ["tensor_inputs", "captured_inputs"]
