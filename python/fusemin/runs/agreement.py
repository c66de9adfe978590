"""What the workers of a job have to do alike. Each has a clock, callbacks and a Ctrl-C of its own, but all must take
the same segments, or they wait for each other for ever."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf


class Agreement:
    """Between the workers of the strategy in whose scope it is made; in a job of one process, of it with itself.

    Every method is called by all workers, in the same order. An exchange is one sum over the workers of a few numbers.

    Attributes:
      number: how many workers there are.
      is_chief: whether this one decides what one must decide, and writes the files: the chief, or the first worker.
    """

    def __init__(self):
        self._strategy = tf.distribute.get_strategy()
        resolver = self._strategy.cluster_resolver
        tasks = [] if resolver is None else _tasks(resolver.cluster_spec())
        self.number = max(len(tasks), 1)
        self._index = tasks.index((resolver.task_type, resolver.task_id)) if self.number > 1 else 0

    @property
    def is_chief(self) -> bool:
        return self._index == 0

    def exchange(self, values: Sequence[int]) -> np.ndarray:
        """The values of all workers, a row each, the chief's first."""
        if self.number == 1:
            return np.array([values], np.int64)
        rows = np.zeros((self.number, len(values)), np.int64)
        rows[self._index] = values
        replicas = len(self._strategy.extended.worker_devices)

        def of_replica(context):
            # One replica speaks for a worker.
            is_first = context.replica_id_in_sync_group % replicas == 0
            return tf.constant(rows if is_first else np.zeros_like(rows))

        values_of_all = self._strategy.experimental_distribute_values_from_function(of_replica)
        return self._strategy.reduce("SUM", values_of_all, axis=None).numpy()

    def of_chief(self, value: int) -> int:
        """The value of the chief."""
        return int(self.exchange([value])[0, 0])

    def any(self, flags: Sequence[bool]) -> list[bool]:
        """For each flag whether it is set on one worker or more."""
        return [bool(flag) for flag in self.exchange([int(flag) for flag in flags]).any(0)]


def _tasks(spec) -> list[tuple[str, int]]:
    """The workers of a cluster, in the order in which `tf.distribute` counts them."""
    return [(job, i) for job in ("chief", "worker") if job in spec.jobs for i in range(spec.num_tasks(job))]
