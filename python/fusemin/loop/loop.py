"""The optimization loop: steps, in `tf.while_loop`s, from where the step before ended, until convergence.

A *segment* is a range of steps that one program runs, with traces of its own. What the next step needs is in a `Carry`,
so steps may be split into segments anywhere, and what comes of them is the same. One run of `minimize` is one segment.
"""

import functools
from typing import Any, NamedTuple

import tensorflow as tf

from fusemin import graphs
from fusemin.loop import seeds
from fusemin.loop.trace_plan import TracePlan, allocate, scatter_rows, trace_shape, write_rows
from fusemin.loop.traceable import quantities_of_step
from fusemin.loop.watch import KeepBest, Policy, Watcher
from fusemin.update.gpu_support import has_kernels
from fusemin.update.stock_ops import is_stock


class Options(NamedTuple):
    """What `minimize` and `minimize_stateless` have in common, and what a run watches, see `Watcher`."""

    convergence_criterion: Any
    batch_convergence_reduce_fn: Any
    return_full_length_trace: bool
    on_nonfinite: Policy = "continue"
    keep_best: KeepBest | None = None


class Carry(NamedTuple):
    """What passes from step to step, and from segment to segment. What a loop does not need is ().

    Attributes:
      taken: int32 scalar, how many steps of this segment have been taken.
      state: what the step carries.
      seed: what the seed of the next step is split from.
      done: whether the loop ends: all has converged, or the step was not finite.
      criterion_state: what the criterion carries.
      watch: see `fusemin.loop.watch`.
    """

    taken: tf.Tensor
    state: Any
    seed: Any
    done: Any
    criterion_state: Any
    watch: Any = ()


class Rows(NamedTuple):
    """The traces of a segment: a buffer for each leaf.

    Attributes:
      written: those whose rows the step itself writes.
      derived: those whose rows are written after the step, of what `trace_fn` returned.
    """

    written: list[tf.Tensor]
    derived: list[tf.Tensor]


def _trial(step, trace_fn, criterion, use_seed, step_writes: bool) -> tuple[TracePlan, Any]:
    """Traces `trace_fn` and the criterion once for trial, to know their outputs before the loop is built. Returns the
    plan of the trace, and the state of the criterion in TensorSpecs, or (). `step_writes` is whether the step may write
    rows of the trace."""
    plan = None

    def trial(index, loss, gradients, parameters, optimizer_state, seed):
        nonlocal plan
        state = criterion.bootstrap(loss, gradients, parameters) if criterion is not None else ()
        quantities = quantities_of_step(
            index, loss, gradients, parameters, criterion_state=state, optimizer_state=optimizer_state, seed=seed
        )
        of_update = [parameters, optimizer_state]
        if criterion is not None:
            of_update += [quantities.has_converged, tf.nest.map_structure(tf.convert_to_tensor, state)]
        late = {t.op for t in tf.nest.flatten(of_update, expand_composites=True)}
        traced, effects = graphs.with_effects(trace_fn, quantities)
        source = functools.partial(step.trace_source, quantities=quantities, effects=effects)
        if not step_writes:
            source = _no_source
        plan = TracePlan.make(traced, source, effects, lambda t: graphs.depends_on(t, late))
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
    return plan, criterion_state


def _no_source(leaf) -> None:
    """No leaf is written by the step."""


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


class Loop:
    """What segments are built of.

    Args:
      step: see `fusemin.loop.step_protocol`.
      use_seed: whether steps get seeds.
      trace_fn: function of the traceable quantities.
      options: see Options.
    """

    def __init__(self, step, use_seed: bool, trace_fn, options: Options):
        self.step, self.use_seed, self._trace_fn, self._options = step, use_seed, trace_fn, options
        self.criterion, self.in_xla = options.convergence_criterion, graphs.in_xla()
        self.watcher = Watcher(step, options.on_nonfinite, options.keep_best)
        # A row is written of a step that is skipped too, so not by its update.
        step_writes = not self.watcher.may_refuse
        self.plan, self.criterion_spec = _trial(step, trace_fn, self.criterion, use_seed, step_writes)
        # Whether the loop may end before all steps are taken.
        self.may_end = self.criterion is not None or self.watcher.may_end
        # Of each step of a segment what is given to the step beside the seed: tensors with a leading dimension, or ().
        self.inputs, self._inputs_start = (), 0
        # Where the kernels of the ops do not run.
        by_stock = is_stock() or (not self.in_xla and not all(map(has_kernels, step.gpus)))
        self.write_rows = scatter_rows if by_stock else write_rows

    def start(self, seed) -> Carry:
        """Before the first step. `seed` is an int32 tensor of shape [2], or None."""
        return Carry(
            taken=tf.constant(0),
            state=self.step.initial_state,
            seed=seed if self.use_seed else (),
            done=tf.constant(False) if self.may_end else (),
            criterion_state=tf.nest.map_structure(
                lambda s: tf.zeros([] if s.shape.rank is None else [d or 0 for d in s.shape], s.dtype),
                self.criterion_spec,
            ),
            watch=self.watcher.start(),
        )

    def give_inputs(self, inputs, start) -> None:
        """What the steps from step `start` on are given: a tuple of structures of tensors with a row for each."""
        self.inputs, self._inputs_start = inputs, start

    def allocate(self, num_rows, of_each=None) -> Rows:
        """Traces of this number of rows, or of as many chunks of `of_each` rows."""
        chunk = tf.TensorShape([] if of_each is None else [of_each])

        def buffers(specs):
            return [allocate(tf.TensorSpec(chunk.concatenate(s.shape), s.dtype), num_rows, self.in_xla) for s in specs]

        return Rows(buffers(self.plan.source_specs), buffers(self.plan.derived_specs))

    def take_step(self, carry: Carry, rows: Rows, before=0, offset=0, in_loop=False) -> tuple[Carry, Rows]:
        """One step, the `offset`th after those that `carry` counts, which it leaves as it is.

        Args:
          carry: after the step before.
          rows: row `carry.taken + offset` is written.
          before: how many steps came before this segment.
          offset: int.
          in_loop: see `fused_step`.
        """
        step_seed, next_seed = seeds.split_seed(carry.seed) if self.use_seed else (None, ())
        criterion, plan, options = self.criterion, self.plan, self._options
        watcher, watch = self.watcher, carry.watch
        calls_trace_fn = bool(plan.derived_specs) or plan.effects or watcher.monitor is not None
        # An op less for each step, and a variable less of the loop, where nobody asks.
        needs_index = calls_trace_fn or criterion is not None or watcher.has_gate or self.inputs
        index = _plus(_plus(carry.taken, offset), before) if needs_index else None

        def traced(*of_result, **others):
            return self._trace_fn(
                quantities_of_step(index, *of_result, seed=next_seed if self.use_seed else None, **others)
            )

        def early_leaves(loss, gradients, parameters):
            leaves = plan.derived(traced(loss, gradients, parameters, criterion_state=carry.criterion_state))
            return [leaf for leaf, early in zip(leaves, plan.early, strict=True) if early]

        def gate(loss, gradients):
            nonlocal watch
            watch, updates = watcher.gate(watch, index, loss, gradients)
            return updates

        result = self.step(
            carry.state,
            seed=step_seed,
            # Not by an index in brackets, which takes XLA minutes to compile for some thousand elements.
            inputs=tf.nest.map_structure(lambda rows: tf.gather(rows, index - self._inputs_start), self.inputs),
            sources=plan.sources,
            buffers=rows.written,
            row=carry.taken,
            row_offset=offset,
            in_loop=in_loop,
            needs_parameters=calls_trace_fn or criterion is not None,
            # XLA would compute them after the update, from copies of what the update replaces.
            before_update=early_leaves if self.in_xla and any(plan.early) and not plan.effects else None,
            gate=gate if watcher.has_gate else None,
        )
        watch = watcher.after_update(watch, result)
        has_converged, done, criterion_state = tf.zeros(tf.shape(result.loss), tf.bool), (), ()
        if criterion is not None:
            has_converged, criterion_state = _converge(
                criterion, index, result, self.criterion_spec, carry.criterion_state
            )
            done = tf.reshape(options.batch_convergence_reduce_fn(has_converged), [])
        if watcher.may_end:
            is_not_finite = watch.nonfinite.cause > 0
            done = is_not_finite if criterion is None else done | is_not_finite
        derived = rows.derived
        if calls_trace_fn:
            returned = traced(
                result.loss,
                result.gradients,
                result.parameters,
                has_converged=has_converged,
                criterion_state=criterion_state,
                optimizer_state=result.optimizer_state,
            )
            derived = self.write_rows(derived, plan.derived(returned), carry.taken, row_offset=offset)
            watch = watcher.after(watch, index, returned)
        carry = Carry(carry.taken, result.state, next_seed, done, criterion_state, watch)
        return carry, Rows(result.buffers, list(derived))

    def take_steps(
        self, carry: Carry, rows: Rows, end, before=0, in_an_iteration=1, in_loop=False, most=None
    ) -> tuple[Carry, Rows]:
        """Steps, so many in an iteration of a loop, as long as all of them are among the first `end` of the segment.
        `most` is how many iterations there can be, if that is known."""

        def body(carry, rows):
            for offset in range(in_an_iteration):
                carry, rows = self.take_step(carry, rows, before, offset, in_loop)
            return carry._replace(taken=carry.taken + in_an_iteration), rows

        # Not in the loop: there it would be computed again at each iteration.
        return self.repeat(carry, rows, end - (in_an_iteration - 1), body, most)

    def repeat(self, carry: Carry, rows: Rows, end, body, most=None) -> tuple[Carry, Rows]:
        """`body(carry, rows)` as long as fewer than `end` steps have been taken, and none has ended the loop."""

        # As a list of tensors: what TensorFlow does with a structure takes Python long, again and again.
        structure = (carry, rows)

        def unfinished(*tensors):
            carry, _ = tf.nest.pack_sequence_as(structure, tensors)
            more = carry.taken < end
            return more & ~carry.done if self.may_end else more

        def taken(*tensors):
            after = body(*tf.nest.pack_sequence_as(structure, tensors))
            tf.nest.assert_same_structure(structure, after)
            return tf.nest.flatten(after)

        tensors = tf.nest.flatten(structure)
        # The state of a criterion and rows of a trace may be of unknown shape.
        shapes = tf.nest.map_structure(lambda t: t.shape, carry)._replace(
            criterion_state=tf.nest.map_structure(lambda s: s.shape, self.criterion_spec)
        )
        derived = [trace_shape(b, s) for b, s in zip(rows.derived, self.plan.derived_specs, strict=True)]
        shapes = [*tf.nest.flatten(shapes), *(b.shape for b in rows.written), *derived]
        tensors = tf.while_loop(
            unfinished,
            taken,
            tensors,
            shapes,
            parallel_iterations=1,
            # What the gradient of a loop needs of it has memory of fixed size in XLA.
            maximum_iterations=most if self.in_xla and graphs.is_recorded() else None,
        )
        return tf.nest.pack_sequence_as(structure, tensors)


def _plus(tensor: tf.Tensor, number) -> tf.Tensor:
    """A sum that costs no op if the number is 0."""
    return tensor if isinstance(number, int) and number == 0 else tensor + number


def fill(loop: Loop, rows: Rows, num_taken) -> Rows:
    """Repeats the row of the last step taken in the rows of the steps that were not."""

    def filled(buffers):
        if not buffers:
            return buffers
        num_steps = tf.shape(buffers[0])[0]
        last = num_taken - 1

        def fill_rows():
            return list(
                loop.write_rows(buffers, [tf.gather(b, last) for b in buffers], num_taken, num_steps - num_taken)
            )

        return tf.cond(num_taken < num_steps, fill_rows, lambda: list(buffers))

    return Rows(filled(rows.written), filled(rows.derived))


def truncate(rows: Rows, num_taken) -> Rows:
    """The rows of the steps taken."""
    return Rows(*([buffer[:num_taken] for buffer in buffers] for buffers in rows))
