"""Functions traced for one purpose, and the memory of their graphs."""

import tensorflow as tf
from tensorflow.python.eager import record
from tensorflow.python.framework import func_graph


def trace(function, *specs, jit_compile=None):
    """The concrete function of a Python function, without AutoGraph, for these specs.

    With `jit_compile` XLA compiles it when it is first called.

    Variables that the function creates are lifted out of it, as in any `tf.function`.
    """
    return tf.function(function, autograph=False, jit_compile=jit_compile).get_concrete_function(*specs)


def trial(function, *specs):
    """Calls a function on symbolic tensors of these specs, in a graph that is thrown away.

    Takes a third of the time of `trace`.

    Returns:
      The TensorSpecs of what it returned, a nested structure of tensors.
    """
    graph = func_graph.FuncGraph("trial")
    with graph.as_default():
        symbolic = tf.nest.map_structure(lambda s: tf.compat.v1.placeholder(s.dtype, s.shape), specs)
        returned = tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), function(*symbolic))
    func_graph.dismantle_func_graph(graph)
    return returned


def call(concrete_function, tensors) -> None:
    """Calls a function of flat tensors that returns nothing, eagerly, in the context at hand.

    Calling the function object would first match each argument with the signature: 1 ms for 100 tensors, of 1.3.
    """
    concrete_function._call_flat(tensors, concrete_function.captured_inputs)


def is_recorded() -> bool:
    """Whether a tape or a forward accumulator may record what is called now, and need its graphs later."""
    return record.could_possibly_record()


def release(concrete_function) -> None:
    """Frees the graph of a function that will not be called or looked at again.

    A graph and its ops refer to each other in cycles. Left to the garbage collector, which runs seldom once the process
    has many objects, dozens of dead graphs pile up: 30 MB and more in a loop of eager `minimize` calls.
    """
    func_graph.dismantle_func_graph(concrete_function.graph)
