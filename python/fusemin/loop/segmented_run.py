"""Runs that the host takes segment by segment, so that it can look in between."""

import tensorflow as tf

from fusemin import graphs
from fusemin.loop.loop import Carry, Loop, Options
from fusemin.loop.segment import take_segment


class SegmentProgram:
    """The loop as one program for segments of any length, traced once, and inside XLA compiled once.

    Args:
      make_step: function without arguments that gives the step, called once, in the context in which it will run.
      trace_fn: function from the step to a function of the traceable quantities.
      options: see `fusemin.loop.loop`.
      use_seed: whether runs are given a seed.
      capacity: None, or the most steps that a segment has; inside XLA an int of at least 2, since its traces have
        memory of fixed size.
      jit_compile: whether XLA compiles the loop.
    """

    def __init__(self, make_step, trace_fn, options: Options, use_seed: bool, capacity=None, jit_compile=False):
        seed = tf.TensorSpec([2], tf.int32) if use_seed else None
        self.capacity = capacity
        loop = None

        def begin(seed):
            nonlocal loop
            step = make_step()
            loop = Loop(step, use_seed, trace_fn(step), options)
            return loop.start(seed)

        def take(carry, before, num_steps):
            return take_segment(loop, carry, before, num_steps, num_steps if capacity is None else capacity)

        self._begin = graphs.trace(begin, seed, jit_compile=jit_compile or None)
        self._plan = loop.plan
        specs = tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), self._begin.structured_outputs)
        specs = specs._replace(criterion_state=loop.criterion_spec)
        number = tf.TensorSpec([], tf.int32)
        self._take = graphs.trace(take, specs, number, number, jit_compile=jit_compile or None)

    def begin(self, seed) -> Carry:
        """Before the first step. `seed` is an int32 tensor of shape [2], or None."""
        return self._begin(seed)

    def take(self, carry: Carry, before: int, num_steps: int):
        """The next steps of a run that has not converged.

        Args:
          carry: what the segment before left.
          before: how many steps came before.
          num_steps: how many to take at most, between 1 and `capacity`.

        Returns:
          `(carry, trace)`, the trace with a row for each step that was taken, `carry.taken`.
        """
        carry, rows = self._take(carry, tf.constant(before), tf.constant(num_steps))
        taken = int(carry.taken)
        cut = [[b if b.shape[0] == taken else b[:taken] for b in buffers] for buffers in rows]
        return carry, self._plan.pack(*cut)


class SegmentedRun:
    """One run, taken segment by segment: the same steps, seeds, criterion and traces as in one piece.

    Attributes:
      taken: how many steps have been taken.
      converged: whether the criterion has ended the run.
    """

    def __init__(self, program: SegmentProgram, seed=None):
        self._program = program
        self._carry = program.begin(seed)
        self.taken = 0
        self.converged = False

    def take(self, num_steps: int):
        """Takes up to `num_steps` steps, at least 1 and at most the program's capacity. Returns their traces."""
        if self.converged:
            raise ValueError("the run has converged; it takes no more steps")
        self._carry, trace = self._program.take(self._carry, self.taken, num_steps)
        self.taken += int(self._carry.taken)
        self.converged = tf.is_tensor(self._carry.done) and bool(self._carry.done)
        return trace
