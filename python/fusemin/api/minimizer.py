"""`Minimizer`: an optimization that is traced once and run many times."""

import contextlib
import dataclasses
import threading
import weakref
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from fusemin import _compat, families, graphs
from fusemin.api.explanation import Explanation, explain
from fusemin.arguments import (
    as_flag,
    as_scope_name,
    check_callable,
    check_convergence_criterion,
    check_num_steps,
    check_optimizer,
)
from fusemin.loop import seeds
from fusemin.loop.compilation import LOSS, as_jit_compile, can_compile_loop, explained_failure
from fusemin.loop.convergence import criterion_or_none
from fusemin.loop.eager_loop import EagerStep, run_eagerly
from fusemin.loop.loop import Options
from fusemin.loop.placement import beside
from fusemin.loop.segment import run_loop
from fusemin.loop.traceable import normalize_trace_fn, trace_loss
from fusemin.loop.variable_step import VariableStep
from fusemin.loop.variables import as_variable_list
from fusemin.types import ConvergenceCriterion, Loss, NumSteps, Optimizer, Seed, Trace
from fusemin.update.replication import check_strategy


class Minimizer:
    """Minimizes a loss as often as it is called, tracing `loss_fn` and the loop at the first call only.

    Each call continues from the values that variables and optimizer have then. `fusemin.minimize` is one call of a
    `Minimizer` that is thrown away.

    Args:
      loss_fn: see `minimize`; so are all other arguments.
      optimizer:
      convergence_criterion:
      batch_convergence_reduce_fn:
      trainable_variables:
      trace_fn:
      return_full_length_trace:
      jit_compile: if True, every new value of `num_steps` is compiled anew, since XLA needs static shapes. If "loss",
        loss and gradients are compiled once.
      name:

    >>> import keras, tensorflow as tf, fusemin
    >>> x = tf.Variable(0.0)
    >>> fit = fusemin.Minimizer(lambda: (x - 5.0) ** 2, keras.optimizers.Adam(learning_rate=0.1))
    >>> fit(100).shape, fit(20).shape
    (TensorShape([100]), TensorShape([20]))
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
          TypeError, ValueError: see `minimize`.
        """
        return self._run(num_steps, seed)

    def run_once(self, num_steps: NumSteps, seed: Seed | None = None) -> Trace:
        """Like `__call__`, for a minimizer that is called once: traces for this `num_steps` only, which is quicker."""
        return self._run(num_steps, seed, once=True)

    def _run(self, num_steps, seed, once=False):
        program = self._program
        num_steps = check_num_steps(num_steps)
        check_strategy(optimizer_is_known=families.find_family(program.optimizer) is not None)
        compiles_loop = program.compiles_loop and can_compile_loop()
        if program.compiles_loop and tf.is_tensor(num_steps):
            raise ValueError("`num_steps` must be known when the function is traced if `jit_compile` is True")
        if seed is not None:
            seed = seeds.sanitize_seed(seed)
        if graphs.is_recorded():
            # The tape may outlive this minimizer. Its graphs are then for the garbage collector.
            self._release.detach()
        if not tf.executing_eagerly():
            return self._run_in_graph(num_steps, seed, compiles_loop)
        if tf.config.functions_run_eagerly() and num_steps > 0:
            step = EagerStep(program.loss_fn, program.optimizer, program.trainable_variables)
            return run_eagerly(step, num_steps, seed, program.trace_fn, program.options)
        with explained_failure(program.jit_compile) if program.jit_compile else contextlib.nullcontext():
            if compiles_loop:
                with beside(program.trainable_variables or []):
                    return self._compiled(num_steps, seed)
            step, loop = program.traced(seed is not None, num_steps if once else None)
            with beside(step.variables):
                return loop(seed) if once else loop(tf.constant(num_steps), seed)

    def _run_in_graph(self, num_steps, seed, compiles_loop):
        if compiles_loop:
            return self._compiled(num_steps, seed)
        if _compat.is_function_graph(tf.compat.v1.get_default_graph()):
            return self._program.inline_run(num_steps, seed)

        def minimize():
            return self._program.inline_run(num_steps, seed)

        # A graph of TensorFlow 1 does not order the ops on a variable; that of a function does.
        return tf.function(minimize, autograph=False)()

    def explain(self) -> Explanation:
        """What updates each variable, and why. Before the first call `trainable_variables` must have been given."""
        variables = self._program.trainable_variables
        for step, _ in self._program.traces.values():
            variables = step.variables
        if variables is None:
            raise ValueError("`trainable_variables` was not given, and what `loss_fn` reads is not known before a call")
        return explain(self._program.optimizer, variables)


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
    # By whether seeds are used, and by `num_steps` if the loop is for one number only: the step and the loop on it,
    # traced outside of every graph.
    traces: dict[tuple[bool, int | None], tuple[VariableStep, Any]] = dataclasses.field(default_factory=dict)
    # Held while tracing: one thread traces, those that call at the same time wait for it.
    lock: Any = dataclasses.field(default_factory=threading.RLock)

    @property
    def compiles_loop(self) -> bool:
        return self.jit_compile is True

    def make_step(self, use_seed):
        compile_loss = self.jit_compile == LOSS
        return VariableStep(self.loss_fn, self.optimizer, self.trainable_variables, use_seed, compile_loss)

    def traced(self, use_seed, num_steps=None):
        """The step, and the loop as a concrete function of a seed, and of `num_steps` first if that is not given; if it
        is given, the loop is for one run."""
        with self.lock:
            key = use_seed, num_steps
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
                self.traces[key] = (step, loop)
            return self.traces[key]

    def release(self):
        """Frees all graphs; the program cannot run again."""
        for step, loop in self.traces.values():
            step.release()
            graphs.release(loop)

    def run(self, step, num_steps, seed, once=False):
        with tf.name_scope(self.name):
            trace_fn = normalize_trace_fn(self.trace_fn, step.variables)
            return run_loop(step, num_steps, seed, trace_fn, self.options, once)[1]

    def inline_run(self, num_steps, seed):
        """The loop in the graph that is being built."""
        step = self.make_step(seed is not None)
        with beside(step.variables):
            return self.run(step, num_steps, seed)
