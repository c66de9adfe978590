"""Functions traced for one purpose, and the memory of their graphs."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import tensorflow as tf

from fusemin import _compat

_Function = TypeVar("_Function", bound=Callable[..., Any])


def without_autograph(function: _Function) -> _Function:
    """A decorator that keeps AutoGraph out of a function, and its type for who checks types."""
    return cast(_Function, tf.autograph.experimental.do_not_convert(function))


def trace(function, *specs, jit_compile=None):
    """The concrete function of a Python function, without AutoGraph, for these specs.

    With `jit_compile` XLA compiles it when it is first called.

    Variables that the function creates are lifted out of it, as in any `tf.function`.

    No lambda may be traced: TensorFlow names the line of an op that failed by looking its function up, and cannot read
    a name with "<" in it.
    """
    assert function.__name__.isidentifier(), function.__name__
    return tf.function(function, autograph=False, jit_compile=jit_compile).get_concrete_function(*specs)


def in_xla() -> bool:
    """Whether what is traced now will be compiled by XLA."""
    # What runs eagerly is not traced.
    return not tf.executing_eagerly() and _compat.is_in_xla_context(tf.compat.v1.get_default_graph())


# Stateful ops that only look: whether they run cannot be seen.
_READS = frozenset({"ReadVariableOp", "ResourceGather", "ResourceGatherNd", "VarHandleOp", "VarIsInitializedOp"})
# Ops that do what the functions do that they call.
_CALLS = frozenset({"StatefulPartitionedCall", "If", "Case", "While"})


def has_effects(operations) -> bool:
    """Whether one of these ops may do more than return tensors: print, assign, write summaries, assert, draw."""
    return next(effects(operations), None) is not None


def effects(operations) -> Iterator[str]:
    """The types of the ops that may do so, among these and in the functions that they call."""
    for op in operations:
        if not op.op_def.is_stateful or op.type in _READS:
            continue
        if op.type not in _CALLS:
            yield op.type
            continue
        for function in _called(op):
            if function is None:
                yield op.type
            else:
                yield from effects(function.graph.get_operations())


def _called(op: tf.Operation) -> list:
    """The functions that an op calls; None for one that is not known."""
    attributes = op.node_def.attr.values()
    names = [a.func.name for a in attributes if a.HasField("func")]
    names += [f.name for a in attributes for f in a.list.func]
    return [_compat.function_of_graph(op.graph, name) for name in names]


def with_called(operations) -> Iterator[tf.Operation]:
    """These ops, and those of the functions that they call."""
    for op in operations:
        yield op
        for function in _called(op):
            if function is not None:
                yield from with_called(function.graph.get_operations())


def depends_on(tensor: tf.Tensor, operations: set) -> bool:
    """Whether a tensor of a graph is computed from what one of these ops returned, or by a stateful op, such as a
    read of a variable."""
    waiting, seen = [tensor.op], set()
    while waiting:
        op = waiting.pop()
        if op in operations or op.op_def.is_stateful:
            return True
        if op not in seen:
            seen.add(op)
            waiting += [t.op for t in op.inputs] + list(op.control_inputs)
    return False


def with_effects(function, *arguments):
    """Calls a function while a graph is built. Returns `(returned, effects)`: what it returned, and whether an op that
    it made has effects."""
    graph = tf.compat.v1.get_default_graph()
    num_before = len(graph.get_operations())
    returned = function(*arguments)
    return returned, has_effects(graph.get_operations()[num_before:])


def trial(function, *specs):
    """Calls a function on symbolic tensors of these specs, in a graph that is thrown away.

    Takes a third of the time of `trace`.

    Returns:
      The TensorSpecs of what it returned, a nested structure of tensors.
    """
    graph = _compat.new_graph("trial")
    with graph.as_default():
        symbolic = tf.nest.map_structure(lambda s: tf.compat.v1.placeholder(s.dtype, s.shape), specs)
        returned = tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), function(*symbolic))
    _compat.dismantle(graph)
    return returned


def is_recorded() -> bool:
    """Whether a tape or a forward accumulator may record what is called now, and need its graphs later."""
    return _compat.is_recorded()


def release(concrete_function) -> None:
    """Frees the graph of a function that will not be called or looked at again.

    A graph and its ops refer to each other in cycles. Left to the garbage collector, which runs seldom once the process
    has many objects, dozens of dead graphs pile up: 30 MB and more in a loop of eager `minimize` calls.
    """
    _compat.dismantle(concrete_function.graph)
