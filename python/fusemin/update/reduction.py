"""The sum over the replicas of a `tf.distribute` strategy."""

from collections.abc import Sequence

import tensorflow as tf


def sum_over_replicas(strategy: tf.distribute.Strategy, pairs: Sequence[tuple]) -> list:
    """The sums of values, each of all replicas.

    One call of TensorFlow for each dtype: in a graph it sums what it is called with as one tensor.

    Args:
      strategy: with replicas, which this is outside of.
      pairs: the value of each replica, and what lies where its sum is to be.
    """
    batches: dict[tf.DType, list[int]] = {}
    for k, (value, _) in enumerate(pairs):
        batches.setdefault(strategy.experimental_local_results(value)[0].dtype, []).append(k)
    sums: dict[int, object] = {}
    for batch in batches.values():
        reduced = strategy.extended.batch_reduce_to(tf.distribute.ReduceOp.SUM, [pairs[k] for k in batch])
        sums.update(zip(batch, reduced, strict=True))
    return [sums[k] for k in range(len(pairs))]
