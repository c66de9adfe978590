"""The optimization loop: `tf.while_loop`s, from step 0, that stop at convergence."""

import functools
from typing import Any, NamedTuple

import tensorflow as tf

from fusemin import graphs, seeds
from fusemin.compilation import in_xla
from fusemin.trace_plan import TracePlan, allocate, trace_shape, write_rows
from fusemin.traceable import MinimizeTraceableQuantities
from fusemin.xla_chunks import rows_of_chunk

# An iteration of a while loop costs TensorFlow about as much as ten small ops (measured: 2.2 us against 0.25 us an op
# on the machine of docs/design.md). Where a step has few ops, four steps go into one iteration; with more ops the
# gain is lost in the noise, and the graph takes longer to build: four steps of a loss of a few ops take 15 ms more than
# one, which a loop that runs once must be long to win back.
STEPS_PER_ITERATION = 4
MAX_OPS_OF_SMALL_STEP = 64
MIN_STEPS_OF_ONE_RUN = 5000


class Options(NamedTuple):
    """What `minimize` and `minimize_stateless` have in common."""

    convergence_criterion: Any
    batch_convergence_reduce_fn: Any
    return_full_length_trace: bool


class _Carry(NamedTuple):
    """Loop variables. What a loop does not need is ()."""

    step: tf.Tensor
    state: Any
    written: list
    derived: list
    seed: Any
    done: Any
    criterion_state: Any


class _Probe(NamedTuple):
    plan: TracePlan
    criterion_state: Any  # In TensorSpecs, or ().


def _probe(step, trace_fn, criterion, use_seed) -> _Probe:
    """Traces `trace_fn` and the criterion once for trial, to know their outputs before the loop is built."""
    plan = None

    def trial(index, loss, gradients, parameters, optimizer_state, seed):
        nonlocal plan
        state = criterion.bootstrap(loss, gradients, parameters) if criterion is not None else ()
        quantities = MinimizeTraceableQuantities(
            step=index,
            loss=loss,
            gradients=gradients,
            parameters=parameters,
            has_converged=tf.zeros(tf.shape(loss), tf.bool),
            convergence_criterion_state=state,
            optimizer_state=optimizer_state,
            seed=seed,
        )
        plan = TracePlan.make(trace_fn(quantities), functools.partial(step.trace_source, quantities=quantities))
        return tf.nest.map_structure(tf.convert_to_tensor, state)

    criterion_state = graphs.trial(
        trial,
        tf.TensorSpec([], tf.int32),
        step.loss,
        step.gradients,
        step.parameters,
        step.optimizer_state,
        tf.TensorSpec([2] if use_seed else [], tf.int32),
    )
    return _Probe(plan, criterion_state)


def _converge(criterion, index, result, spec, state):
    """`(has_converged, state)` of the criterion after a step."""

    def first():
        initial = criterion.bootstrap(result.loss, result.gradients, result.parameters)
        return tf.zeros(tf.shape(result.loss), tf.bool), tf.nest.map_structure(tf.convert_to_tensor, initial)

    def later():
        return criterion.one_step(index, result.loss, result.gradients, result.parameters, state)

    has_converged, state = tf.cond(index > 0, later, first)
    tf.nest.map_structure(lambda t, s: t.set_shape(s.shape), state, spec)
    return has_converged, state


class _Loop:
    """What `run_loop` builds its loops of. All counts of steps start at 0, also where a loop starts later."""

    def __init__(self, step, seed, trace_fn, options: Options):
        self.step, self._seed, self._trace_fn, self._options = step, seed, trace_fn, options
        self.criterion, self.use_seed, self.in_xla = options.convergence_criterion, seed is not None, in_xla()
        self.plan, self._criterion_spec = _probe(step, trace_fn, self.criterion, self.use_seed)

    def start(self) -> _Carry:
        """The loop variables before the first step, without buffers."""
        return _Carry(
            step=tf.constant(0),
            state=self.step.initial_state,
            written=[],
            derived=[],
            seed=self._seed if self.use_seed else (),
            done=tf.constant(False) if self.criterion is not None else (),
            criterion_state=tf.nest.map_structure(
                lambda s: tf.zeros([] if s.shape.rank is None else [d or 0 for d in s.shape], s.dtype),
                self._criterion_spec,
            ),
        )

    def with_buffers(self, carry: _Carry, num_rows, rows=None) -> _Carry:
        """With traces of this number of rows, for steps to write into, or of as many chunks of so many rows."""
        chunk = tf.TensorShape([] if rows is None else [rows])

        def buffers(specs):
            return [allocate(tf.TensorSpec(chunk.concatenate(s.shape), s.dtype), num_rows, self.in_xla) for s in specs]

        return carry._replace(written=buffers(self.plan.source_specs), derived=buffers(self.plan.derived_specs))

    def take_step(self, carry: _Carry, offset=0, first_row=None, in_loop=False) -> _Carry:
        """One step, the `offset`th after the count; its row is counted from `first_row`, the step of row 0. See
        `fused_step` of `in_loop`."""
        step_seed, next_seed = seeds.split_seed(carry.seed) if self.use_seed else (None, ())
        criterion, plan, options = self.criterion, self.plan, self._options
        row = carry.step if first_row is None else carry.step - first_row
        needs_parameters = bool(plan.derived_specs) or criterion is not None
        result = self.step(carry.state, step_seed, plan.sources, carry.written, row, offset, in_loop, needs_parameters)
        index = carry.step + offset if offset else carry.step
        has_converged, done, criterion_state = tf.zeros(tf.shape(result.loss), tf.bool), (), ()
        if criterion is not None:
            has_converged, criterion_state = _converge(
                criterion, index, result, self._criterion_spec, carry.criterion_state
            )
            done = tf.reshape(options.batch_convergence_reduce_fn(has_converged), [])
        derived = carry.derived
        if plan.derived_specs:
            quantities = MinimizeTraceableQuantities(
                step=index,
                loss=result.loss,
                gradients=result.gradients,
                parameters=result.parameters,
                has_converged=has_converged,
                convergence_criterion_state=criterion_state,
                optimizer_state=result.optimizer_state,
                seed=next_seed if self.use_seed else tf.constant(-1),
            )
            derived = write_rows(derived, plan.derived(self._trace_fn(quantities)), row, row_offset=offset)
        return _Carry(carry.step, result.state, result.buffers, list(derived), next_seed, done, criterion_state)

    def take_steps(self, carry: _Carry, end, steps_per_iteration=1, first_row=None, in_loop=False, most=None) -> _Carry:
        """Steps, so many in an iteration of a loop, as long as all of them come before `end`. `most` is the number of
        iterations that there can be, if that is known."""

        def body(carry):
            for offset in range(steps_per_iteration):
                carry = self.take_step(carry, offset, first_row, in_loop)
            return carry._replace(step=carry.step + steps_per_iteration)

        # Not in the loop: there it would be computed again at each iteration.
        return self._while(carry, end - (steps_per_iteration - 1), body, most)

    def take_chunks(self, carry: _Carry, end: int, rows: int) -> _Carry:
        """Steps until `end`, so many in a loop with buffers of its own, which a loop around it gathers. See
        `fusemin.xla_chunks`."""
        first, remaining = carry.step, end - tf.get_static_value(carry.step)

        def body(outer):
            inner = self.with_buffers(outer, rows)
            last = tf.minimum(outer.step + rows, end)
            inner = self.take_steps(inner, last, first_row=outer.step, in_loop=True, most=rows)
            chunk = (outer.step - first) // rows
            return inner._replace(
                written=write_rows(outer.written, inner.written, chunk),
                derived=write_rows(outer.derived, inner.derived, chunk),
            )

        num_chunks = -(-remaining // rows)
        carry = self._while(self.with_buffers(carry, num_chunks, rows), end, body, num_chunks)
        written, derived = (
            [tf.reshape(b, [-1, *b.shape[2:]])[:remaining] for b in buffers]
            for buffers in (carry.written, carry.derived)
        )
        return carry._replace(written=written, derived=derived)

    def _while(self, carry: _Carry, end, body, most) -> _Carry:
        """`body` as long as a step before `end` is to be taken, and not all has converged."""

        def unfinished(*carry):
            carry = _Carry(*carry)
            more = carry.step < end
            return more if self.criterion is None else more & ~carry.done

        invariants = tf.nest.map_structure(lambda t: t.shape, carry)
        invariants = invariants._replace(
            derived=[trace_shape(b, s) for b, s in zip(carry.derived, self.plan.derived_specs, strict=True)],
            criterion_state=tf.nest.map_structure(lambda s: s.shape, self._criterion_spec),
        )
        return _Carry(
            *tf.while_loop(
                unfinished,
                lambda *flat: body(_Carry(*flat)),
                carry,
                invariants,
                parallel_iterations=1,
                # What the gradient of a loop needs of it has memory of fixed size in XLA.
                maximum_iterations=most if self.in_xla and graphs.is_recorded() else None,
            )
        )


def run_loop(step, num_steps, seed, trace_fn, options: Options, once=False):
    """Runs up to `num_steps` steps.

    Args:
      step: a VariableStep or StatelessStep.
      num_steps: int, or int32 scalar tensor.
      seed: int32 tensor of shape [2], or None.
      trace_fn: function of the traceable quantities.
      options: see Options.
      once: whether what is built will run once only.

    Returns:
      `(state, trace)`: what the step carries, after the last step, and the trace.
    """
    loop = _Loop(step, seed, trace_fn, options)
    carry = _take_all_in_xla(loop, num_steps) if loop.in_xla else _take_all(loop, num_steps, once)
    written, derived = carry.written, carry.derived
    if loop.criterion is not None and (tf.is_tensor(num_steps) or num_steps > 0):
        finish = _fill if options.return_full_length_trace else _truncate
        written, derived = finish(written, carry.step), finish(derived, carry.step)
    return carry.state, loop.plan.pack(written, derived)


def _take_all(loop: _Loop, num_steps, once: bool) -> _Carry:
    """All steps, as TensorFlow's executor takes them fastest."""
    carry, dynamic = loop.with_buffers(loop.start(), num_steps), tf.is_tensor(num_steps)
    small = loop.step.num_ops() <= MAX_OPS_OF_SMALL_STEP and loop.criterion is None
    small = small and not (once and num_steps < MIN_STEPS_OF_ONE_RUN)
    if small and not dynamic:
        # The steps that do not fill an iteration need no loop, which would take longer to build than they.
        rest = num_steps % STEPS_PER_ITERATION
        for offset in range(rest):
            carry = loop.take_step(carry, offset)
        if rest:
            carry = carry._replace(step=tf.constant(rest))
    if small and (dynamic or num_steps >= STEPS_PER_ITERATION):
        carry = loop.take_steps(carry, num_steps, STEPS_PER_ITERATION)
    if dynamic or not small:
        carry = loop.take_steps(carry, num_steps)
    return carry


def _take_all_in_xla(loop: _Loop, num_steps) -> _Carry:
    """All steps, as programs of XLA take them fastest."""
    carry, dynamic, first = loop.start(), tf.is_tensor(num_steps), int(loop.use_seed)
    # XLA compiles a loop that takes no step too, and refuses to write rows into nothing.
    if not dynamic and num_steps == 0:
        return loop.with_buffers(carry, 0)
    # XLA knows how much memory the gradient of a loop takes, but not of one inside another.
    chunked = not dynamic and not graphs.is_recorded()
    rows = rows_of_chunk(loop.step, loop.plan, num_steps - first) if chunked else None
    carry = loop.with_buffers(carry, num_steps if rows is None else first)
    if loop.use_seed and not dynamic:
        # By itself, before the loop. XLA has a function for the random numbers of a shape, and fuses it into what uses
        # them, and computes each number many times, unless there are two calls of it.
        carry = loop.take_step(carry)._replace(step=tf.constant(1))
    if rows is None:
        most = None if dynamic else num_steps - first
        return loop.take_steps(carry, num_steps, in_loop=most is not None and most > 1, most=most)
    before = carry.written, carry.derived
    carry = loop.take_chunks(carry, num_steps, rows)
    if not loop.use_seed:
        return carry
    written, derived = (
        [tf.concat(parts, 0) for parts in zip(*buffers, strict=True)]
        for buffers in zip(before, (carry.written, carry.derived), strict=True)
    )
    return carry._replace(written=written, derived=derived)


def _fill(buffers, num_taken):
    """Repeats the row of the last step taken in the rows of the steps that were not."""
    if not buffers:
        return buffers
    num_steps = tf.shape(buffers[0])[0]
    last = num_taken - 1

    def fill_rows():
        return list(write_rows(buffers, [tf.gather(b, last) for b in buffers], num_taken, num_steps - num_taken))

    return tf.cond(num_taken < num_steps, fill_rows, lambda: list(buffers))


def _truncate(buffers, num_taken):
    return [buffer[:num_taken] for buffer in buffers]
