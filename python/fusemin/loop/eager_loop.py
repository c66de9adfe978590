"""The loop in Python, for `tf.config.run_functions_eagerly(True)`: everything runs op by op."""

import tensorflow as tf

from fusemin.loop import seeds
from fusemin.loop.differentiation import differentiator
from fusemin.loop.loop import Options
from fusemin.loop.trace_plan import convert_leaf
from fusemin.loop.traceable import normalize_trace_fn, quantities_of_step
from fusemin.loop.variable_step import applier
from fusemin.loop.variables import unwrap_variable
from fusemin.update.gradients import densify


class EagerStep:
    """The step of `minimize` that calls `loss_fn` and the optimizer as they are: always the stock step.

    Attributes:
      variables: the variables as the user knows them; without `trainable_variables`, what `loss_fn` read last.
    """

    def __init__(self, loss_fn, optimizer, trainable_variables):
        self._differentiate, self.variables = differentiator(loss_fn, trainable_variables)
        self._apply = applier(optimizer, self.variables)

    def __call__(self, seed):
        """`(loss, gradients, parameters)` of one step, the parameters after the update."""
        loss, gradients = self._differentiate(seed)
        self._apply(gradients)
        variables = [unwrap_variable(v) for v in self.variables]
        dense = [densify(g, v) for g, v in zip(gradients, variables, strict=True)]
        return loss, dense, [v.read_value() for v in variables]


def run_eagerly(step: EagerStep, num_steps: int, seed, trace_fn, options: Options):
    """As `run_loop`, with `num_steps` of at least 1. Returns the trace."""
    criterion = options.convergence_criterion
    rows, criterion_state = [], ()
    for index in range(num_steps):
        step_seed, seed = seeds.split_seed(seed) if seed is not None else (None, None)
        loss, gradients, parameters = step(step_seed)
        has_converged = tf.zeros(tf.shape(loss), tf.bool)
        if criterion is not None:
            if index == 0:
                criterion_state = criterion.bootstrap(loss, gradients, parameters)
            else:
                has_converged, criterion_state = criterion.one_step(
                    tf.constant(index), loss, gradients, parameters, criterion_state
                )
        traced = normalize_trace_fn(trace_fn, step.variables)(
            quantities_of_step(
                tf.constant(index),
                loss,
                gradients,
                parameters,
                has_converged=has_converged,
                criterion_state=criterion_state,
                seed=seed,
            )
        )
        rows.append(tf.nest.map_structure(convert_leaf, traced))
        if criterion is not None and options.batch_convergence_reduce_fn(has_converged):
            break
    if options.return_full_length_trace:
        rows += [rows[-1]] * (num_steps - len(rows))
    return tf.nest.map_structure(lambda *leaves: tf.stack(leaves), *rows)
