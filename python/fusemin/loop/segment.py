"""How the steps of a segment are arranged: in which loops, how many in an iteration, with which buffers."""

import tensorflow as tf

from fusemin import graphs
from fusemin.loop.loop import Carry, Loop, Options, Rows, fill, truncate
from fusemin.loop.xla_chunks import rows_of_chunk

# An iteration of a while loop costs TensorFlow about as much as ten small ops (measured: 2.2 us against 0.25 us an op
# on the machine of docs/design.md). Where a step has few ops, four steps go into one iteration; with more ops the
# gain is lost in the noise, and the graph takes longer to build: four steps of a loss of a few ops take 15 ms more than
# one, which a loop that runs once must be long to win back.
STEPS_PER_ITERATION = 4
MAX_OPS_OF_SMALL_STEP = 64
MIN_STEPS_OF_ONE_RUN = 5000


def run_loop(step, num_steps, seed, trace_fn, options: Options, once=False):
    """Runs up to `num_steps` steps.

    Args:
      step: see `fusemin.loop.step_protocol`.
      num_steps: int, or int32 scalar tensor.
      seed: int32 tensor of shape [2], or None.
      trace_fn: function of the traceable quantities.
      options: see Options.
      once: whether what is built will run once only.

    Returns:
      `(state, trace)`: what the step carries, after the last step, and the trace.
    """
    loop = Loop(step, seed is not None, trace_fn, options)
    carry, rows = _take_all(loop, loop.start(seed), num_steps, once)
    if loop.criterion is not None and (tf.is_tensor(num_steps) or num_steps > 0):
        rows = fill(loop, rows, carry.taken) if options.return_full_length_trace else truncate(rows, carry.taken)
    return carry.state, loop.plan.pack(loop.plan.in_order(*rows))


def _take_all(loop: Loop, carry: Carry, num_steps, once: bool) -> tuple[Carry, Rows]:
    if not loop.in_xla:
        return _take_by_executor(loop, carry, loop.allocate(num_steps), num_steps, once=once)
    if tf.is_tensor(num_steps):
        rows = loop.allocate(num_steps)
        return loop.take_steps(carry, rows, num_steps)
    # XLA compiles a loop that takes no step too, and refuses to write rows into nothing.
    if num_steps == 0:
        return carry, loop.allocate(0)
    return _take_in_xla(loop, carry, num_steps, num_steps)


def take_segment(loop: Loop, carry: Carry, before, num_steps, capacity, inputs=()) -> tuple[Carry, Rows]:
    """Takes steps that others came before, for a host that runs segment after segment.

    Args:
      loop: of all segments.
      carry: after the segment before, `taken` included; not `done`.
      before: int32 scalar tensor, how many steps came before this segment.
      num_steps: int32 scalar tensor of at least 1, how many to take.
      capacity: how many rows the traces of the segment have, at least `num_steps`. Inside XLA an int.
      inputs: what each step is given beside the seed, see `Loop.give_inputs`.

    Returns:
      The carry after the last step, with `taken` counted from 0, and the traces; rows that no step wrote are undefined.
    """
    carry = carry._replace(taken=tf.constant(0))
    loop.give_inputs(inputs, before)
    begun = loop.watcher.begin_segment()
    if loop.in_xla:
        carry, rows = _take_in_xla(loop, carry, num_steps, capacity, before)
    else:
        carry, rows = _take_by_executor(loop, carry, loop.allocate(capacity), num_steps, before)
    return carry._replace(watch=loop.watcher.end_segment(carry.watch, carry.taken, begun)), rows


def _take_by_executor(loop: Loop, carry: Carry, rows: Rows, num_steps, before=0, once=False) -> tuple[Carry, Rows]:
    """Steps, as TensorFlow's executor takes them fastest."""
    dynamic = tf.is_tensor(num_steps)
    small = loop.step.num_ops() <= MAX_OPS_OF_SMALL_STEP and not loop.may_end
    small = small and not (once and num_steps < MIN_STEPS_OF_ONE_RUN)
    # Nothing orders what is printed by ops of one iteration, and each copy of an op that draws random numbers begins
    # with the same ones.
    small = small and not loop.plan.effects and not loop.step.effects
    if small and not dynamic:
        # The steps that do not fill an iteration need no loop, which would take longer to build than they.
        rest = num_steps % STEPS_PER_ITERATION
        for offset in range(rest):
            carry, rows = loop.take_step(carry, rows, before, offset)
        if rest:
            carry = carry._replace(taken=tf.constant(rest))
    if small and (dynamic or num_steps >= STEPS_PER_ITERATION):
        carry, rows = loop.take_steps(carry, rows, num_steps, before, STEPS_PER_ITERATION)
    if dynamic or not small:
        carry, rows = loop.take_steps(carry, rows, num_steps, before)
    return carry, rows


def _take_in_xla(loop: Loop, carry: Carry, num_steps, capacity: int, before=0) -> tuple[Carry, Rows]:
    """At least one step, as programs of XLA take them fastest. `num_steps` is `capacity`, or a parameter of the
    program, which XLA cannot know."""
    # By itself, before the loop. XLA has a function for the random numbers of a shape, and fuses it into what uses
    # them, and computes each number many times, unless there are two calls of it. And only the first row tells the
    # bound of a shape that is not known before.
    first = int(loop.use_seed or not all(spec.shape.is_fully_defined() for spec in loop.plan.derived_specs))
    # XLA knows how much memory the gradient of a loop takes, but not of one inside another.
    of_each = None if graphs.is_recorded() else rows_of_chunk(loop.step, loop.plan, capacity - first)
    rows = loop.allocate(capacity if of_each is None else first)
    if first:
        carry, rows = loop.take_step(carry, rows, before)
        carry = carry._replace(taken=tf.constant(1))
    if of_each is None:
        most = capacity - first
        return loop.take_steps(carry, rows, num_steps, before, in_loop=most > 1, most=most)
    carry, rest = _take_chunks(loop, carry, num_steps, capacity - first, of_each, before)
    if not first:
        return carry, rest
    return carry, Rows(
        *([tf.concat(parts, 0) for parts in zip(a, b, strict=True)] for a, b in zip(rows, rest, strict=True))
    )


def _take_chunks(loop: Loop, carry: Carry, num_steps, capacity: int, of_each: int, before) -> tuple[Carry, Rows]:
    """Steps, so many in a loop with buffers of its own, which a loop around it gathers. See `xla_chunks.py`."""
    first = carry.taken

    def body(outer, chunks):
        steps = tf.minimum(of_each, num_steps - outer.taken)
        inner, rows = loop.take_steps(
            outer._replace(taken=tf.constant(0)),
            loop.allocate(of_each),
            steps,
            before=outer.taken + before,
            in_loop=True,
            most=of_each,
        )
        chunk = (outer.taken - first) // of_each
        chunks = Rows(*(loop.write_rows(all_, part, chunk) for all_, part in zip(chunks, rows, strict=True)))
        return inner._replace(taken=outer.taken + inner.taken), chunks

    num_chunks = -(-capacity // of_each)
    carry, chunks = loop.repeat(carry, loop.allocate(num_chunks, of_each), num_steps, body, num_chunks)
    return carry, Rows(*([tf.reshape(b, [-1, *b.shape[2:]])[:capacity] for b in buffers] for buffers in chunks))
