"""Runs that the host takes segment by segment, so that it can look in between."""

import math

import tensorflow as tf

from fusemin import _compat, graphs
from fusemin.loop.loop import Carry, Loop, Options
from fusemin.loop.segment import take_segment
from fusemin.loop.watch import KeepBest
from fusemin.update.copies import container_of, copies_of


class _WithLoss:
    """`trace_fn` in a tuple, with the loss beside it unless a leaf is it.

    Attributes:
      loss_leaf: which leaf is the loss, after a call.
    """

    def __init__(self, trace_fn):
        self._trace_fn = trace_fn

    def __call__(self, quantities):
        traced = self._trace_fn(quantities)
        leaves = tf.nest.flatten(traced, expand_composites=True)
        self.loss_leaf = next((i for i, leaf in enumerate(leaves) if leaf is quantities.loss), len(leaves))
        return (traced, quantities.loss) if self.loss_leaf == len(leaves) else (traced,)


class SegmentProgram:
    """The loop as one program for segments of any length, traced once, and inside XLA compiled once.

    Args:
      make_step: function without arguments that gives the step, called once, in the context in which it will run.
      trace_fn: function from the step to a function of the traceable quantities.
      options: see `fusemin.loop.loop`.
      use_seed: whether runs are given a seed.
      capacity: None, or the most steps that a segment has, or a function that gives it from the bytes of a row; inside
        XLA at least 2, since traces have memory of fixed size there.
      jit_compile: whether XLA compiles the loop.
      inputs: TensorSpecs of what each step is given beside the seed, a tuple of structures.

    Attributes:
      step: what `make_step` gave.
      structure: of the trace of a step, with type specs for leaves.
      leaf_specs: TensorSpecs of a row of each leaf of the trace.
      num_leaves: how many leaves the user's trace has: all, or all but the last, which is the loss.
      loss_leaf: which leaf is the loss.
      best_variables: see `KeepBest.variables`.
      capacity: None, or an int.
    """

    def __init__(
        self, make_step, trace_fn, options: Options, use_seed: bool, capacity=None, jit_compile=False, inputs=()
    ):
        seed = tf.TensorSpec([2], tf.int32) if use_seed else None
        loop = traced = None
        keep_best = options.keep_best
        if keep_best is not None and keep_best.monitor is not None:
            monitor = keep_best.monitor
            keep_best = KeepBest(lambda returned: monitor(returned[0]))  # `_WithLoss` puts the trace into a tuple.
            options = options._replace(keep_best=keep_best)

        # What is traced refers to no program, so that no cycle keeps one alive.
        def begin(seed):
            nonlocal loop, traced
            step = make_step()
            traced = _WithLoss(trace_fn(step))
            loop = Loop(step, use_seed, traced, options)
            return loop.start(seed)

        def take(carry, before, num_steps, inputs):
            rows = num_steps if capacity is None else capacity
            carry, rows = take_segment(loop, carry, before, num_steps, rows, inputs)
            return carry, loop.plan.in_order(*rows)

        self._begin = graphs.trace(begin, seed, jit_compile=jit_compile or None)
        self.step, self._plan = loop.step, loop.plan
        self.best_variables = [] if keep_best is None else keep_best.variables
        self.loss_leaf, self.structure = traced.loss_leaf, self._plan.structure[0]
        self.leaf_specs = self._plan.in_order(iter(self._plan.source_specs), iter(self._plan.derived_specs))
        self.num_leaves = len(self.leaf_specs) - (len(self._plan.structure) - 1)
        if callable(capacity):
            capacity = capacity(self.row_bytes)
        self.capacity = capacity
        specs = tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), self._begin.structured_outputs)
        specs = specs._replace(criterion_state=loop.criterion_spec)
        number = tf.TensorSpec([], tf.int32)
        inputs = tf.nest.map_structure(lambda s: tf.TensorSpec([capacity, *s.shape], s.dtype), inputs)
        self._take = graphs.trace(take, specs, number, number, inputs, jit_compile=jit_compile or None)

    def lower(self) -> None:
        """Has XLA take in the program, see `fusemin._compat.lower_to_hlo`."""
        _compat.lower_to_hlo(self._begin)
        _compat.lower_to_hlo(self._take)

    @property
    def row_bytes(self) -> int:
        """Of one row of all leaves, as far as their shapes are known."""
        return sum(
            math.prod(d or 1 for d in s.shape) * s.dtype.size for s in self.leaf_specs if s.shape.rank is not None
        )

    @property
    def variables(self) -> list[tf.Variable]:
        """All that the program reads or writes, but for `best_variables`, in an order that is the same in each
        process. For copies of a `tf.distribute` strategy that are the same on all replicas there is what holds them."""
        best = {id(copy) for v in self.best_variables for copy in copies_of(v)}
        of_update = self.step.variables_of_update
        known = [copy for v in [*self._take.variables, *of_update] for copy in copies_of(v)]
        # Not of `captured_inputs`: to ask for it counts as a call with TensorFlow's sums over several machines, which
        # then wait for the others' call.
        position = {id(handle): i for i, handle in enumerate(self._take.graph.external_captures)}
        found = {id(v.handle): v for v in known if id(v.handle) in position and id(v) not in best}
        same = {id(v): container_of(v) or v for v in of_update}
        ordered = [found[key] for key in sorted(found, key=position.get)]
        return list({id(v): v for v in (same.get(id(v), v) for v in ordered)}.values())

    def begin(self, seed) -> Carry:
        """Before the first step. `seed` is an int32 tensor of shape [2], or None."""
        return self._begin(seed)

    def take(self, carry: Carry, before: int, num_steps: int, inputs=()):
        """The next steps of a run that has not ended.

        Args:
          carry: what the segment before left.
          before: how many steps came before.
          num_steps: how many to take at most, between 1 and `capacity`.
          inputs: what each step is given beside the seed, with as many rows as `capacity`, or `num_steps`.

        Returns:
          `(carry, leaves)`, the leaves of the trace with a row for each step that was taken, `carry.taken`.
        """
        carry, leaves = self._take(carry, tf.constant(before), tf.constant(num_steps), inputs)
        taken = int(carry.taken)
        return carry, [leaf if leaf.shape[0] == taken else leaf[:taken] for leaf in leaves]

    def pack(self, leaves: list):
        """The trace in the user's structure, of its leaves, or of all."""
        leaves = [*leaves[: self.num_leaves], *([None] * (len(self.leaf_specs) - self.num_leaves))]
        return self._plan.pack(leaves)[0]

    def release(self) -> None:
        """Frees the graphs; the program cannot run again."""
        self.step.release()
        graphs.release(self._begin)
        graphs.release(self._take)


class SegmentedRun:
    """One run, taken segment by segment: the same steps, seeds, criterion and traces as in one piece.

    Attributes:
      program: what takes the steps.
      carry: after the last step.
      taken: how many steps have been taken.
      converged: whether the criterion has ended the run.
      not_finite: whether a step that was not finite has ended it: 0, or `NonFinite.cause`. Of that step nothing is
        left, and it does not count.
    """

    def __init__(self, program: SegmentProgram, seed=None):
        self.program = program
        self.carry = program.begin(seed)
        self.taken = 0
        self.converged = False
        self.not_finite = 0

    def go_on(self, carry: Carry, taken: int) -> None:
        """Goes on from where another run was, or this one."""
        self.carry, self.taken = carry, taken
        self.converged = _has_ended(carry)

    def take(self, num_steps: int, inputs=()) -> list[tf.Tensor]:
        """Takes up to `num_steps` steps, at least 1 and at most the program's capacity. Returns the leaves of their
        trace."""
        if self.converged:
            raise ValueError("the run has converged; it takes no more steps")
        self.carry, leaves = self.program.take(self.carry, self.taken, num_steps, inputs)
        self.taken += int(self.carry.taken)
        if self.carry.watch.nonfinite:
            self.not_finite = int(self.carry.watch.nonfinite.cause)
        if self.not_finite:
            self.taken -= 1
            leaves = [leaf[:-1] for leaf in leaves]
        self.converged = _has_ended(self.carry) and not self.not_finite
        return leaves


def _has_ended(carry: Carry) -> bool:
    """Whether the loop was left before all steps that were asked for."""
    return tf.is_tensor(carry.done) and bool(carry.done)
