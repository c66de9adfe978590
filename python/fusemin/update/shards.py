"""Slots in parts: each replica of a strategy holds and updates those of its own variables only (ZeRO-1)."""

import contextlib
from collections.abc import Sequence

import tensorflow as tf

from fusemin import _compat
from fusemin.families import find_variable
from fusemin.families.family import SHARDS_ATTRIBUTE
from fusemin.update.copies import container_of


class Shards:
    """Which replica of this machine owns which variable: holds its slots and updates it for all others.

    Whole variables, so that a slot is a variable as it is in stock, on one device: a checkpoint has it whole.

    Attributes:
      strategy: that keeps the copies of the variables.
    """

    def __init__(self, strategy: tf.distribute.MirroredStrategy):
        self.strategy = strategy
        self._owners: dict[int, int] = {}

    @property
    def number(self) -> int:
        """Of replicas."""
        return len(self.strategy.extended.worker_devices)

    def assign(self, variables: Sequence) -> None:
        """Decides who owns what, as the optimizer is built for these variables.

        Raises:
          ValueError: this is outside of the strategy's scope.
        """
        if tf.distribute.get_strategy() is not self.strategy:
            raise ValueError(
                "an optimizer of `fuse(..., shard_slots=True)` is built outside of the scope of the strategy in which "
                "`fuse` was called; build it, or compile the model, inside"
            )
        self._owners = dict(zip(self._keys(variables), self._balanced(variables), strict=True))

    def owners_of(self, variables: Sequence) -> list[int]:
        """The owner of each variable, decided or as it would be."""
        if self._owners:
            return [self.owner(v) for v in variables]
        return self._balanced(variables)

    def owner(self, variable) -> int:
        """The number of the replica that owns a variable; of any variable that it was not assigned for the first."""
        return self._owners.get(self._keys([variable])[0], 0)

    @contextlib.contextmanager
    def beside_owner(self, variable):
        """Inside of it what the optimizer makes for a variable is on the device of its owner only."""
        device = self.strategy.extended.worker_devices[self.owner(variable)]
        with _compat.on_one_device(device):
            yield

    def _balanced(self, variables) -> list[int]:
        return balanced([num_bytes(find_variable(v)) for v in variables], self.number)

    @staticmethod
    def _keys(variables) -> list[int]:
        """A name for each variable, the same of it and of its copies."""
        found = [find_variable(v) for v in variables]
        return [id(container_of(v) or v) for v in found]


def shards_of(optimizer) -> Shards | None:
    """The parts that the slots of an optimizer are in, or None."""
    return vars(optimizer).get(SHARDS_ATTRIBUTE) if hasattr(optimizer, "__dict__") else None


def num_bytes(variable) -> int:
    return variable.shape.num_elements() * variable.dtype.size


def balanced(sizes: Sequence[int], number: int) -> list[int]:
    """A number below `number` for each size, so that the sums are nearly alike: the largest first, each to whom has
    least (Graham 1969: at most 4/3 of the best)."""
    sums, owners = [0] * number, [0] * len(sizes)
    for k in sorted(range(len(sizes)), key=lambda k: (-sizes[k], k)):
        owner = min(range(number), key=lambda i: (sums[i], i))
        owners[k] = owner
        sums[owner] += sizes[k]
    return owners
