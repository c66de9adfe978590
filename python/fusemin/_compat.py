"""Every part of TensorFlow and Keras that fusemin uses and that is not public, one function each.

A new version of TensorFlow or Keras is read here first. Private attributes of optimizers are in the modules of their
families, `fusemin.families`; `tests/fuse/test_relied_on.py` pins both.
"""

import contextlib
import itertools

import tensorflow as tf
from tensorflow.python.distribute import numpy_dataset
from tensorflow.python.eager import cancellation, context, execute, record
from tensorflow.python.eager.polymorphic_function import atomic_function
from tensorflow.python.framework import func_graph
from tensorflow.python.ops import control_flow_util, resource_variable_ops


def is_in_xla_context(graph) -> bool:
    """Whether XLA compiles a graph, or one around it. The public API tells nobody what is being traced for."""
    return control_flow_util.GraphOrParentsInXlaContext(graph)


def is_resource_variable(variable) -> bool:
    """Whether a variable has a handle that an op can lock. The class is public only as what `tf.Variable` makes."""
    return isinstance(variable, resource_variable_ops.BaseResourceVariable)


def is_plain_variable(variable) -> bool:
    """Whether a variable is what `tf.Variable` makes in eager mode, nothing derived from it. Quicker to ask than
    whether it is anything else."""
    return type(variable) is resource_variable_ops.ResourceVariable


def is_function_graph(graph) -> bool:
    """Whether a graph is a function's, in which TensorFlow orders the ops on a variable; not one of TensorFlow 1."""
    return isinstance(graph, func_graph.FuncGraph)


def device_scope() -> str:
    """The device of the innermost `tf.device` around what runs or is traced now; "" if there is none. In a graph of
    TensorFlow 1 always ""."""
    return context.context().device_name or ""


def is_in_device_scope() -> bool:
    """Whether there is a `tf.device` around what runs or is built now, also in a graph of TensorFlow 1."""
    graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    while graph is not None:
        if graph._device_functions_outer_to_inner:
            return True
        graph = getattr(graph, "outer_graph", None)
    return bool(device_scope())


def is_composite(value) -> bool:
    """Whether a value consists of tensors or variables. `tf.nest` expands them, but does not say which they are."""
    return isinstance(value, tf.__internal__.CompositeTensor) and not isinstance(value, tf.Variable)


def is_recorded() -> bool:
    """Whether a tape or a forward accumulator may record what is called now. None of them can be asked for."""
    return record.could_possibly_record()


def new_graph(name: str):
    """The graph of a function that is never made: `tf.function` would take three times as long."""
    return func_graph.FuncGraph(name)


def dismantle(graph) -> None:
    """Breaks the cycles of references in the graph of a function. Left to the garbage collector they pile up."""
    func_graph.dismantle_func_graph(graph)


def function_of_graph(graph, name: str):
    """The function that an op of a graph calls by its name, or None."""
    return graph._get_function(name)


def orders_side_effects(graph) -> bool:
    """Whether ops with side effects will run in a graph without being returned: in a `tf.function`, or a loop or trial
    inside one. A graph of TensorFlow 1 orders nothing."""
    while graph is not None:
        if graph._add_control_dependencies:
            return True
        graph = getattr(graph, "outer_graph", None)
    return False


def call_flat(concrete_function, tensors) -> None:
    """Calls a function of flat tensors that returns nothing, eagerly, in the context at hand.

    Calling the function object would first match each argument with the signature: 1 ms for 100 tensors, of 1.3.
    """
    concrete_function._call_flat(tensors, concrete_function.captured_inputs)


def lower_to_hlo(concrete_function) -> None:
    """Has XLA take in a function, for the device at hand, without compiling it into code and without running it.

    `tf.function.experimental_get_compiler_ir` is public, but draws a random number to know the device, which moves the
    generator of whoever set its seed.

    Raises:
      ValueError: XLA cannot compile it.
    """
    captured = concrete_function.captured_inputs
    tensors = concrete_function.inputs[: len(concrete_function.inputs) - len(captured)]
    context.context().get_compiler_ir(
        device_name=tf.add(1.0, 1.0).device,
        platform_name=None,
        function_name=concrete_function.name,
        flat_args=[tf.TensorSpec(t.shape, t.dtype) for t in tensors],
        captured_inputs=captured,
        stage="hlo_serialized",
    )


def new_cancellation():
    """What can cancel a call, by its `start_cancel()`, from another thread."""
    return cancellation.CancellationManager()


def call_cancelable(concrete_function, tensors, cancellation_manager):
    """Calls a function of flat tensors, eagerly and where nothing records it, so that it can be cancelled.

    `CancellationManager.get_cancelable_function` would also cancel what other threads call in the meantime.
    """
    function, here = concrete_function._inference_function, context.context()
    with atomic_function.InterpolateRuntimeError(function):
        outputs = execute.execute_with_cancellation(
            function.name.decode(),
            num_outputs=len(function.function_type.flat_outputs),
            inputs=[*tensors, *concrete_function.captured_inputs],
            attrs=tuple(itertools.chain(*here.function_call_options.as_attrs().items())),
            ctx=here,
            cancellation_manager=cancellation_manager,
        )
    return function.function_type.pack_output(outputs or None)


def position_of_iterator(iterator) -> tf.Tensor:
    """Where an iterator of a dataset stands, a variant. `tf.train.Checkpoint` saves the same, but only at once."""
    return iterator._serialize_to_tensors()["_STATE"]


def set_position_of_iterator(iterator, position: tf.Tensor) -> None:
    """Lets an iterator of such a dataset go on from there."""
    iterator._restore_from_tensors({"_STATE": position})


def variable_of_strategy(variable):
    """The variable with several copies that a variable is a copy of, or None. A copy refers to it weakly, privately, by
    its handle, or if it was made in a `tf.function` by itself."""
    for holder in (getattr(variable, "handle", None), variable):
        reference = getattr(holder, "_distributed_container", None)
        if reference is not None:
            return reference()
    return None


@contextlib.contextmanager
def on_one_device(device: str):
    """Inside of it variables have one copy, on a device, in the scope of a strategy that would keep several."""

    def create(next_creator, **arguments):
        arguments["colocate_with"] = numpy_dataset.SingleDevice(device)
        return next_creator(**arguments)

    with tf.variable_creator_scope(create):
        yield


def replicas_meet() -> bool:
    """Whether the replicas of the strategy at hand meet in `merge_call`. If XLA compiles them, on GPUs, they do not."""
    return not tf.__internal__.distribute.strategy_supports_no_merge_call()


def keras_name_scope(name: str, caller):
    """The name scope in which Keras 3 makes the variables of an optimizer, so that they get the names of stock."""
    from keras.src import backend

    return backend.name_scope(name, caller=caller)


def is_in_keras_stateless_scope() -> bool:
    """Whether a `keras.StatelessScope` is open. The class is public, the question is not."""
    from keras.src import backend

    return backend.in_stateless_scope()
