"""The loop in Python, for `tf.config.run_functions_eagerly(True)`: everything runs op by op."""

import tensorflow as tf

from fusemin import seeds
from fusemin.loop import Options
from fusemin.trace_plan import convert_leaf
from fusemin.traceable import MinimizeTraceableQuantities, normalize_trace_fn


def run_eagerly(step, num_steps: int, seed, trace_fn, options: Options):
    """As `run_loop`, with `num_steps` of at least 1. Returns the trace."""
    criterion = options.convergence_criterion
    rows, state, criterion_state = [], step.initial_state, ()
    for index in range(num_steps):
        step_seed, seed = seeds.split_seed(seed) if seed is not None else (None, None)
        result = step(
            state,
            seed=step_seed,
            sources=[],
            buffers=[],
            row=0,
            row_offset=0,
            in_loop=False,
            needs_parameters=True,
        )
        state = result.state
        has_converged = tf.zeros(tf.shape(result.loss), tf.bool)
        if criterion is not None:
            quantities = (result.loss, result.gradients, result.parameters)
            if index == 0:
                criterion_state = criterion.bootstrap(*quantities)
            else:
                has_converged, criterion_state = criterion.one_step(tf.constant(index), *quantities, criterion_state)
        traced = normalize_trace_fn(trace_fn, step.variables)(
            MinimizeTraceableQuantities(
                step=tf.constant(index),
                loss=result.loss,
                gradients=result.gradients,
                parameters=result.parameters,
                has_converged=has_converged,
                convergence_criterion_state=criterion_state,
                optimizer_state=result.optimizer_state,
                seed=tf.constant(-1) if seed is None else seed,
            )
        )
        rows.append(tf.nest.map_structure(convert_leaf, traced))
        if criterion is not None and options.batch_convergence_reduce_fn(has_converged):
            break
    if options.return_full_length_trace:
        rows += [rows[-1]] * (num_steps - len(rows))
    return tf.nest.map_structure(lambda *leaves: tf.stack(leaves), *rows)
