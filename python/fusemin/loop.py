"""The optimization loop: one `tf.while_loop`, from step 0, that stops at convergence."""

import functools
from typing import Any, NamedTuple

import tensorflow as tf

from fusemin import graphs, seeds
from fusemin.compilation import in_xla
from fusemin.trace_plan import TracePlan, allocate, trace_shape, write_rows
from fusemin.traceable import MinimizeTraceableQuantities

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
    criterion, use_seed, xla = options.convergence_criterion, seed is not None, in_xla()
    plan, criterion_spec = _probe(step, trace_fn, criterion, use_seed)
    initial = _Carry(
        step=tf.constant(0),
        state=step.initial_state,
        written=[allocate(spec, num_steps, xla) for spec in plan.source_specs],
        derived=[allocate(spec, num_steps, xla) for spec in plan.derived_specs],
        seed=seed if use_seed else (),
        done=tf.constant(False) if criterion is not None else (),
        criterion_state=tf.nest.map_structure(
            lambda s: tf.zeros([] if s.shape.rank is None else [d or 0 for d in s.shape], s.dtype), criterion_spec
        ),
    )
    needs_parameters = bool(plan.derived_specs) or criterion is not None

    def one_step(carry: _Carry, offset: int) -> _Carry:
        step_seed, next_seed = seeds.split_seed(carry.seed) if use_seed else (None, ())
        result = step(carry.state, step_seed, plan.sources, carry.written, carry.step, offset, needs_parameters)
        index = carry.step + offset if offset else carry.step
        has_converged, done, criterion_state = tf.zeros(tf.shape(result.loss), tf.bool), (), ()
        if criterion is not None:
            has_converged, criterion_state = _converge(criterion, index, result, criterion_spec, carry.criterion_state)
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
                seed=next_seed if use_seed else tf.constant(-1),
            )
            derived = write_rows(derived, plan.derived(trace_fn(quantities)), carry.step, row_offset=offset)
        return _Carry(carry.step, result.state, result.buffers, list(derived), next_seed, done, criterion_state)

    def iterate(carry: _Carry, steps_per_iteration: int) -> _Carry:
        def body(*carry):
            carry = _Carry(*carry)
            for offset in range(steps_per_iteration):
                carry = one_step(carry, offset)
            return carry._replace(step=carry.step + steps_per_iteration)

        # Outside of the loop: inside it would be computed again at each iteration.
        end = num_steps - (steps_per_iteration - 1)

        def unfinished(*carry):
            carry = _Carry(*carry)
            more = carry.step < end
            return more if criterion is None else more & ~carry.done

        invariants = tf.nest.map_structure(lambda t: t.shape, carry)
        invariants = invariants._replace(
            derived=[trace_shape(b, s) for b, s in zip(carry.derived, plan.derived_specs, strict=True)],
            criterion_state=tf.nest.map_structure(lambda s: s.shape, criterion_spec),
        )
        return _Carry(*tf.while_loop(unfinished, body, carry, invariants, parallel_iterations=1))

    carry, dynamic = initial, tf.is_tensor(num_steps)
    small = step.num_ops() <= MAX_OPS_OF_SMALL_STEP and criterion is None and not xla
    small = small and not (once and num_steps < MIN_STEPS_OF_ONE_RUN)
    if small and not dynamic:
        # The steps that do not fill an iteration need no loop, which would take longer to build than they.
        rest = num_steps % STEPS_PER_ITERATION
        for offset in range(rest):
            carry = one_step(carry, offset)
        if rest:
            carry = carry._replace(step=tf.constant(rest))
    if small and (dynamic or num_steps >= STEPS_PER_ITERATION):
        carry = iterate(carry, STEPS_PER_ITERATION)
    # XLA compiles a loop that takes no step too, and refuses to write rows into nothing.
    if dynamic or (num_steps > 0 and not small):
        carry = iterate(carry, 1)

    written, derived = carry.written, carry.derived
    if criterion is not None and (dynamic or num_steps > 0):
        finish = _fill if options.return_full_length_trace else _truncate
        written, derived = finish(written, carry.step), finish(derived, carry.step)
    return carry.state, plan.pack(written, derived)


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
