"""`Minimizer`: an optimization that is traced once and run many times."""

import contextlib
import dataclasses
import datetime
import functools
import logging
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from fusemin import _compat, graphs
from fusemin.api.explanation import Explanation, explain
from fusemin.arguments import (
    as_flag,
    as_scope_name,
    check_callable,
    check_convergence_criterion,
    check_num_steps,
    check_optimizer,
)
from fusemin.loop import auto_compilation, seeds
from fusemin.loop.auto_compilation import Decision
from fusemin.loop.cancellation import call_interruptibly, leaves_whole_steps
from fusemin.loop.compilation import AUTO, LOSS, as_jit_compile, can_compile_loop, explained_failure
from fusemin.loop.convergence import criterion_or_none
from fusemin.loop.eager_loop import EagerStep, run_eagerly
from fusemin.loop.interruption import python_interrupts
from fusemin.loop.loop import Options
from fusemin.loop.placement import beside
from fusemin.loop.replica_step import ReplicaStep
from fusemin.loop.segment import run_loop
from fusemin.loop.segmented_run import SegmentProgram
from fusemin.loop.traceable import normalize_trace_fn, trace_loss
from fusemin.loop.variable_step import VariableStep
from fusemin.loop.variables import as_variable_list, unwrap_variable
from fusemin.loop.watch import KeepBest
from fusemin.runs.checkpoint import Checkpoint
from fusemin.runs.data import Batches
from fusemin.runs.options import RunOptions, as_run_options
from fusemin.runs.result import Result
from fusemin.runs.run import Run, most_steps
from fusemin.types import ConvergenceCriterion, Loss, NumSteps, Optimizer, Seed, Trace
from fusemin.update.replication import one_device_scope, replicated_strategy

_LOGGER = logging.getLogger("fusemin")


class Minimizer:
    """Minimizes a loss as often as it is called, and traces `loss_fn` and the loop at the first call only.

    Each call goes on from the values that variables and optimizer have then. `fusemin.minimize` makes a `Minimizer` for
    one call.

    Args:
      loss_fn: see `minimize`; so are all other arguments.
      optimizer:
      convergence_criterion:
      batch_convergence_reduce_fn:
      trainable_variables:
      trace_fn:
      return_full_length_trace:
      jit_compile: see `minimize`. With True the loop is compiled anew for every new value of `num_steps`, since XLA
        needs static shapes. With "loss" the loss and its gradients are compiled once. "auto" decides for each number of
        steps by itself; `explain` says what it chose.
      name:

    >>> import keras, tensorflow as tf, fusemin
    >>> x = tf.Variable(0.0)
    >>> fit = fusemin.Minimizer(lambda: (x - 5.0) ** 2, keras.optimizers.Adam(learning_rate=0.1))
    >>> fit(100).shape, fit(20).shape
    (TensorShape([100]), TensorShape([20]))
    >>> fit
    <Minimizer of <lambda> by Adam, 1 variable of 1 element, fused, rule 'adam', jit_compile=False>
    """

    def __init__(
        self,
        loss_fn: Loss,
        optimizer: Optimizer,
        convergence_criterion: ConvergenceCriterion | None = None,
        batch_convergence_reduce_fn: Callable[[Any], Any] = tf.reduce_all,
        trainable_variables: Any = None,
        trace_fn: Callable[..., Any] = trace_loss,
        return_full_length_trace: bool = True,
        jit_compile: bool | str | None = False,
        name: str = "minimize",
    ) -> None:
        check_callable(loss_fn, "loss_fn")
        check_optimizer(optimizer)
        check_convergence_criterion(convergence_criterion)
        check_callable(batch_convergence_reduce_fn, "batch_convergence_reduce_fn")
        normalize_trace_fn(trace_fn, [])
        self._program = _Program(
            loss_fn,
            optimizer,
            # What is an iterator is at its end after the first look at it.
            None if trainable_variables is None else as_variable_list(trainable_variables),
            trace_fn,
            Options(
                criterion_or_none(convergence_criterion, batch_convergence_reduce_fn),
                batch_convergence_reduce_fn,
                as_flag(return_full_length_trace, "return_full_length_trace"),
            ),
            as_jit_compile(jit_compile),
            as_scope_name(name),
        )
        run = self._program.inline_run

        def compiled_minimize(num_steps, seed):
            return run(num_steps, seed)

        self._compiled = tf.function(compiled_minimize, autograph=False, jit_compile=True)
        self._release = weakref.finalize(self, self._program.release)
        self._release.atexit = False

    # AutoGraph of a user's tf.function would convert all of this code, which takes seconds.
    @graphs.without_autograph
    def __call__(self, num_steps: NumSteps, seed: Seed | None = None) -> Trace:
        """Runs the optimization.

        Args:
          num_steps: see `minimize`. Another value does not retrace, but with `jit_compile=True` it compiles anew.
          seed: see `minimize`; None for none.

        Returns:
          The trace, see `minimize`.

        Raises:
          TypeError, ValueError, KeyboardInterrupt: see `minimize`.
        """
        return self._run(num_steps, seed)

    @graphs.without_autograph
    def run(
        self,
        num_steps: NumSteps,
        seed: Seed | None = None,
        *,
        progress: bool | str = False,
        callbacks: Callable[..., Any] | Sequence[Callable[..., Any]] = (),
        every: int | datetime.timedelta | None = None,
        time_limit: float | None = None,
        on_nonfinite: str = "continue",
        keep_best: bool | Callable[[Any], Any] = False,
        restore_best: bool = False,
        trace_every: int = 1,
        trace_last: int | None = None,
        trace_to: str | os.PathLike[str] | None = None,
        checkpoint: Checkpoint | None = None,
        data: tf.data.Dataset | None = None,
    ) -> Result:
        """Runs the optimization so that it can be watched, stopped and resumed.

        The steps are those of a call, to the bit. They are taken in segments of about 0.3 seconds, and in between
        Python does what the keywords ask for. Ctrl-C ends the run after the segment at hand: `run` returns what there
        is so far, and variables and optimizer are as a whole step left them. A second Ctrl-C raises KeyboardInterrupt
        as usual.

        Args:
          num_steps: see `minimize`.
          seed: see `minimize`; None for none.
          progress: whether to show a bar, in a terminal or notebook; elsewhere it is silent. "always" shows it in files
            and logs too.
          callbacks: function, or list of them, each called with a `RunState`, which has `step`, `loss`, `trace` (the
            rows since the last call) and `variables`. One that returns "stop" ends the run. It may assign to variables,
            such as a learning rate; the next step uses the new value. `TensorBoard`, `CSVLog` and `ReduceOnPlateau` are
            callbacks.
          every: how often callbacks are called: a number of steps, which is exact, or a `datetime.timedelta`. None for
            a few times a second. They are called once more at the end, for the rows that are left.
          time_limit: seconds after which the run ends, tracing included.
          on_nonfinite: what to do with a step whose gradient is not finite: "continue" takes it like any other; "skip"
            leaves variables and optimizer as they are, and goes on. "stop" and "raise" end the run before such a step,
            or one whose loss is not finite; "raise" raises a `NonFiniteError`.
          keep_best: True to keep the parameters at the smallest loss; or a function from what `trace_fn` returns at a
            step to a scalar, whose smallest value is the best.
          restore_best: whether to assign the best parameters to the variables at the end.
          trace_every: with k, the trace has rows of steps 0, k, 2 k and so on only.
          trace_last: with n, the trace has the last n rows only; None for all.
          trace_to: directory for NumPy files, one for each `Tensor` of the trace, to which rows are appended, so that
            the trace takes no memory. The trace that is returned is mapped from them.
          checkpoint: a `Checkpoint`, which says where and how often to save the run; a run of the same program goes on
            from what it finds there. None for no checkpoints.
          data: a `tf.data.Dataset` with elements of known shapes. `loss_fn` is called with one element at each step,
            as its first argument. At its end the dataset begins again.

        Returns:
          A `Result`.

        Raises:
          TypeError, ValueError: see `minimize`; or a keyword is not as described.
          RuntimeError: it is called in a graph, under a tape, or with `tf.config.run_functions_eagerly(True)`.
          NotImplementedError: see `minimize`; or, in the scope of a `tf.distribute` strategy, `trace_to` is given with
            several workers, or another `on_nonfinite` than "continue" with an optimizer that is not fused.
          FileNotFoundError: the workers of a job do not find the same checkpoint.
          NonFiniteError: see `on_nonfinite`.
          CheckpointMismatchError: the checkpoint is of another run.

        Warns:
          UserWarning: a checkpoint is damaged, and the one before is taken.

        >>> import keras, tensorflow as tf, fusemin
        >>> x = tf.Variable(0.0)
        >>> fit = fusemin.Minimizer(lambda: (x - 5.0) ** 2, keras.optimizers.Adam(learning_rate=0.1))
        >>> result = fit.run(1000, callbacks=lambda state: "stop" if state.loss < 1e-3 else None, every=50)
        >>> result.status.value, result.steps % 50, len(result.trace) == result.steps
        ('stopped by a callback', 0, True)
        """
        options = as_run_options(
            progress,
            callbacks,
            every,
            time_limit,
            on_nonfinite,
            keep_best,
            restore_best,
            trace_every,
            trace_last,
            trace_to,
            checkpoint,
            data,
        )
        return self.run_with(num_steps, seed, options)

    def run_with(self, num_steps: NumSteps, seed: Seed | None, options: RunOptions) -> Result:
        """As `run`, with keywords that were checked."""
        program, scope = self._program, one_device_scope()
        if scope is not None:
            return scope.run(self.run_with, (num_steps, seed, options))
        _check_can_run(options)
        num_steps = check_num_steps(num_steps)
        _check_replicas(program.jit_compile)
        sanitized: Any = None if seed is None else seeds.sanitize_seed(seed)
        batches = None if options.data is None else Batches(options.data)
        mode = program.jit_compile
        if mode == AUTO:
            mode = program.decide_segments(seed is not None, num_steps, batches, options).compiles
        with explained_failure(mode) if mode else contextlib.nullcontext():
            segments = program.segments(seed is not None, num_steps, batches, options, mode is True)
            identity = {
                # An int draws another seed at each call in a process.
                "seed": seed if seed is None or isinstance(seed, int) else tf.get_static_value(sanitized).tolist(),
                "jit_compile": mode,
            }
            strategy = replicated_strategy()
            if strategy is not None:
                # Of another number of parts the sum is rounded differently.
                identity["replicas"] = strategy.num_replicas_in_sync
            run = Run(
                segments,
                program.optimizer,
                num_steps,
                sanitized,
                options,
                batches,
                program.options.return_full_length_trace,
                program.options.convergence_criterion,
                identity,
            )
            return run.take()

    def run_once(self, num_steps: NumSteps, seed: Seed | None = None) -> Trace:
        """Like `__call__`, for a minimizer that is called once: traces for this `num_steps` only, which is quicker."""
        return self._run(num_steps, seed, once=True)

    def _run(self, num_steps, seed, once=False):
        program, scope = self._program, one_device_scope()
        if scope is not None:
            return scope.run(self._run, (num_steps, seed, once))
        num_steps = check_num_steps(num_steps)
        _check_replicas(program.jit_compile)
        mode = program.jit_compile
        if mode is True and tf.is_tensor(num_steps):
            raise ValueError("`num_steps` must be known when the function is traced if `jit_compile` is True")
        if seed is not None:
            seed = seeds.sanitize_seed(seed)
        if graphs.is_recorded():
            # The tape may outlive this minimizer. Its graphs are then for the garbage collector.
            self._release.detach()
        if mode == AUTO:
            mode = self._decide(num_steps, seed, once).compiles
        compiles_loop = mode is True and can_compile_loop()
        if not tf.executing_eagerly():
            return self._run_in_graph(num_steps, seed, compiles_loop)
        if tf.config.functions_run_eagerly() and num_steps > 0:
            step = EagerStep(program.loss_fn, program.optimizer, program.trainable_variables)
            return run_eagerly(step, num_steps, seed, program.trace_fn, program.options)
        with explained_failure(mode) if mode else contextlib.nullcontext():
            if compiles_loop:
                with beside(program.trainable_variables or []):
                    return self._compiled(num_steps, seed)
            step, loop = program.traced(seed is not None, num_steps if once else None)
            with beside(step.variables):
                # Ctrl-C would not be heard before all steps are taken.
                if loop in program.interruptible and python_interrupts() and not graphs.is_recorded():
                    tensors = [] if once else [tf.constant(num_steps)]
                    return call_interruptibly(loop, tensors if seed is None else [*tensors, seed])
                return loop(seed) if once else loop(tf.constant(num_steps), seed)

    def _decide(self, num_steps, seed, once: bool) -> Decision:
        """Whether XLA compiles the loop of a call, with jit_compile="auto"."""
        program, use_seed = self._program, seed is not None

        def lower():
            with beside(program.trainable_variables or []):
                _compat.lower_to_hlo(self._compiled.get_concrete_function(num_steps, seed))

        return program.decide(
            ("call", use_seed),
            num_steps,
            lambda: program.traced(use_seed, num_steps if once else None)[0],
            lower,
        )

    def _run_in_graph(self, num_steps, seed, compiles_loop):
        if compiles_loop:
            return self._compiled(num_steps, seed)
        if _compat.is_function_graph(tf.compat.v1.get_default_graph()):
            return self._program.inline_run(num_steps, seed)

        def minimize():
            return self._program.inline_run(num_steps, seed)

        # A graph of TensorFlow 1 does not order the ops on a variable; that of a function does.
        return tf.function(minimize, autograph=False)()

    def __repr__(self) -> str:
        program, variables = self._program, self._known_variables()
        loss = getattr(program.loss_fn, "__qualname__", type(program.loss_fn).__qualname__)
        parts = [f"{loss} by {type(program.optimizer).__name__}"]
        if variables is None:
            parts.append("variables that the first call finds")
        else:
            sizes = [unwrap_variable(v).shape.num_elements() for v in variables]
            elements = "elements of number unknown" if None in sizes else _counted(sum(sizes), "element")
            parts.append(f"{_counted(len(sizes), 'variable')} of {elements}")
            parts.append(self._update(variables))
        return f"<Minimizer of {', '.join(parts)}, jit_compile={program.jit_compile!r}>"

    def _update(self, variables) -> str:
        """What updates the variables, in a word or two."""
        try:
            rows = explain(self._program.optimizer, variables).rows
        except (NotImplementedError, TypeError, ValueError) as error:
            return f"refused ({error})"  # As a call would. What Python shows of an object is no place for errors.
        if any(row.rule is None for row in rows):
            return "not fused"
        return f"fused, rule {', '.join(sorted({repr(row.rule) for row in rows}))}"

    def _known_variables(self) -> list | None:
        """The variables as the user knows them; None if they were not given, and no call has found them."""
        steps = [step for step, _ in self._program.traces.values()]
        for step in [*steps, *(segments.step for segments in self._program.segment_programs.values())]:
            return step.variables
        return self._program.trainable_variables

    def explain(self) -> Explanation:
        """What updates each variable, and why. Before the first call `trainable_variables` must have been given."""
        variables = self._known_variables()
        if variables is None:
            raise ValueError("`trainable_variables` was not given, and what `loss_fn` reads is not known before a call")
        decision = self._program.last_decision[-1:]
        return dataclasses.replace(explain(self._program.optimizer, variables), compilation="".join(map(str, decision)))


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _check_can_run(options: RunOptions) -> None:
    """Raises a RuntimeError where Python cannot look in between segments."""
    where = None
    if not tf.executing_eagerly():
        where = "inside of a tf.function or a graph of TensorFlow 1"
    elif tf.config.functions_run_eagerly():
        where = "with tf.config.run_functions_eagerly(True)"
    elif graphs.is_recorded():
        where = "under a tf.GradientTape, through which a run that Python looks into has no gradient"
    if where is not None:
        keywords = ", ".join(f"`{name}`" for name in options.asked_for) or "`run`"
        raise RuntimeError(
            f"{keywords}: not possible {where}. Call it from Python, outside of that, or leave the keywords out (of "
            "`minimize`, or by calling the `Minimizer`): then all steps are part of what is built."
        )


def _check_replicas(jit_compile: bool | str) -> None:
    """Raises a NotImplementedError for what does not work in the scope of a strategy with replicas."""
    strategy = replicated_strategy()
    if strategy is None:
        return
    name = type(strategy).__name__
    if jit_compile is True:
        raise NotImplementedError(
            f"`jit_compile=True` does not work in a `{name}.scope()`: XLA compiles for one device, and the loop is on "
            'all. "loss" compiles loss and gradients of each replica.'
        )
    if graphs.is_recorded():
        raise NotImplementedError(
            f"`minimize` does not work under a tf.GradientTape in a `{name}.scope()`: the sum over the replicas has no "
            "gradient in TensorFlow. Call it outside of the tape."
        )
    if tf.config.functions_run_eagerly():
        raise NotImplementedError(
            f"`minimize` does not work in a `{name}.scope()` with tf.config.run_functions_eagerly(True). Take that "
            "back, or debug the loss outside of the scope."
        )


@dataclasses.dataclass(frozen=True, repr=False)
class _Program:
    """What a Minimizer traces. Holds no reference to it or to its function, so that no cycle keeps graphs alive."""

    loss_fn: Any
    optimizer: Any
    trainable_variables: Any
    trace_fn: Any
    options: Options
    jit_compile: bool | str
    name: str
    # By whether seeds are used, by `num_steps` if the loop is for one number only, and by the strategy with replicas if
    # there is one: the step and the loop on it, traced outside of every graph.
    traces: dict[tuple[bool, int | None, Any], tuple[VariableStep, Any]] = dataclasses.field(default_factory=dict)
    # Those of the loops that Ctrl-C may end.
    interruptible: set[Any] = dataclasses.field(default_factory=set)
    # Programs for runs in segments, by all that they depend on.
    segment_programs: dict[tuple, SegmentProgram] = dataclasses.field(default_factory=dict)
    # Held while tracing: one thread traces, those that call at the same time wait for it.
    lock: Any = dataclasses.field(default_factory=threading.RLock)
    # With jit_compile="auto": the decisions, by what is run and how many steps there are; what a trial gave, by what is
    # run; and the decision that was asked for last, if any.
    decisions: dict[tuple, Decision] = dataclasses.field(default_factory=dict)
    trials: dict[tuple, str | None] = dataclasses.field(default_factory=dict)
    last_decision: list[Decision] = dataclasses.field(default_factory=list)

    def make_step(self, use_seed, inputs=()):
        strategy = replicated_strategy()
        make = VariableStep if strategy is None else functools.partial(ReplicaStep, strategy)
        compile_loss = self.jit_compile == LOSS
        return make(self.loss_fn, self.optimizer, self.trainable_variables, use_seed, compile_loss, inputs)

    def decide(self, what: tuple, num_steps, trace_step, lower) -> Decision:
        """Whether XLA compiles a loop, with jit_compile="auto".

        Args:
          what: by what the loops differ, beside their number of steps.
          num_steps: int, or in a graph a tensor.
          trace_step, lower: see `auto_compilation.decide`.
        """

        def tried():
            # For one number of steps: what XLA cannot compile does not depend on it.
            if what not in self.trials:
                self.trials[what] = auto_compilation.find_failure(lower)
            return self.trials[what]

        with self.lock:
            not_here = auto_compilation.not_here()
            key: tuple = (what, num_steps) if not_here is None else (not_here,)
            if key not in self.decisions:
                self.decisions[key] = not_here or auto_compilation.decide(num_steps, trace_step, tried)
                _LOGGER.debug("%s", self.decisions[key])
            self.last_decision[:] = [self.decisions[key]]
            return self.decisions[key]

    def decide_segments(self, use_seed, num_steps, batches, options) -> Decision:
        """As `decide`, of the loop for a run in segments."""
        what = "run", use_seed, None if batches is None else repr(batches.spec), options.on_nonfinite, options.keep_best

        def segments(compiles):
            return self.segments(use_seed, num_steps, batches, options, compiles)

        return self.decide(what, num_steps, lambda: segments(False).step, lambda: segments(True).lower())

    def segments(
        self, use_seed: bool, num_steps: int, batches: Batches | None, options: RunOptions, compiles: bool
    ) -> SegmentProgram:
        """The loop for a run in segments, compiled by XLA or not."""
        inputs = () if batches is None else (batches.spec,)
        batch_bytes = 0 if batches is None else batches.batch_bytes
        # What is compiled has traces of fixed size. Of a power of 2, so that runs of about as many steps share it.
        limit = max(2, 1 << max(num_steps - 1, 1).bit_length()) if compiles else None

        def capacity(row_bytes):
            return min(limit, most_steps(row_bytes + batch_bytes, in_xla=True))

        monitor = options.keep_best if callable(options.keep_best) else None
        keep_best = KeepBest(monitor) if options.keep_best else None
        loop_options = self.options._replace(on_nonfinite=options.on_nonfinite, keep_best=keep_best)
        with self.lock:
            key = use_seed, limit, repr(inputs), options.on_nonfinite, options.keep_best, replicated_strategy()
            if key not in self.segment_programs:
                self.segment_programs[key] = SegmentProgram(
                    lambda: self.make_step(use_seed, inputs),
                    lambda step: normalize_trace_fn(self.trace_fn, step.variables),
                    loop_options,
                    use_seed,
                    None if limit is None else capacity,
                    compiles,
                    inputs,
                )
            return self.segment_programs[key]

    def traced(self, use_seed, num_steps=None):
        """The step, and the loop as a concrete function of a seed, and of `num_steps` first if that is not given; if it
        is given, the loop is for one run."""
        with self.lock:
            key = use_seed, num_steps, replicated_strategy()
            if key not in self.traces:
                # The step first and by itself: `loss_fn` may create variables in it, but could not in the loop.
                step = self.make_step(use_seed)
                seed = tf.TensorSpec([2], tf.int32) if use_seed else None

                def minimize(num_steps, seed):
                    return self.run(step, num_steps, seed)

                def minimize_once(seed):
                    return self.run(step, num_steps, seed, once=True)

                if num_steps is None:
                    loop = graphs.trace(minimize, tf.TensorSpec([], tf.int32), seed)
                else:
                    loop = graphs.trace(minimize_once, seed)
                if leaves_whole_steps(step, loop):
                    self.interruptible.add(loop)
                self.traces[key] = (step, loop)
            return self.traces[key]

    def release(self):
        """Frees all graphs; the program cannot run again."""
        for step, loop in self.traces.values():
            step.release()
            graphs.release(loop)
        for program in self.segment_programs.values():
            program.release()

    def run(self, step, num_steps, seed, once=False):
        with tf.name_scope(self.name):
            trace_fn = normalize_trace_fn(self.trace_fn, step.variables)
            return run_loop(step, num_steps, seed, trace_fn, self.options, once)[1]

    def inline_run(self, num_steps, seed):
        """The loop in the graph that is being built."""
        step = self.make_step(seed is not None)
        with beside(step.variables):
            return self.run(step, num_steps, seed)
