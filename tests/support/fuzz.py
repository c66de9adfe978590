"""Random mutations of calls of the raw ops: each is refused with an error, and nothing is written, or it runs.

    python -m tests.support.fuzz --mode eager --seed 0 --count 1000

prints how many calls ran and how many were refused, and ends with status 1 where a refused call wrote something. A
crash ends the process: the last line printed with `--verbose` says what was called.
"""

import argparse
import itertools
import random

import numpy as np
import tensorflow as tf

from fusemin import _build, _core
from fusemin.update.fused_step import float64_bits
from tests.support.fused_step_call import FusedStepCall

# TensorFlow's own wrappers end some with an assertion.
REFUSED = (tf.errors.OpError, ValueError, TypeError, OverflowError, AssertionError)
INTS = (-(2**63), -(2**31), -2, -1, 0, 1, 2, 3, 7, 2**31 - 1, 2**31, 2**63 - 1)
RULES = ("sgd", "sgd_momentum", "adam", "amsgrad", "lamb", "adam_powers")
STRINGS = (
    "",
    "x0",
    "adam",
    "param",
    "gradient",
    "value",
    "every",
    "touched",
    "slots_of_every",
    "clipnorm",
    "\0",
    "é" * 99,
)
FLOATS = (0.0, -0.0, 0.5, -1.0, 1e308, float("inf"), float("nan"), 3.0)
SHAPES = ((), (1,), (3,), (2, 1), (0,), (4, 3), (1, 2**20), (2, 3, 1))
DTYPES = (tf.float64, tf.float32, tf.float16, tf.int32, tf.int64, tf.string, tf.bool)


def tensor(rng):
    dtype, shape = rng.choice(DTYPES), rng.choice(SHAPES)
    if dtype == tf.string:
        return tf.fill(shape, "text")
    return tf.cast(tf.fill(shape, rng.choice((0, 1, -1, 2**31 - 1))), dtype)


def sparse_indices(rng):
    return tf.constant([rng.choice((0, 1, 2, -1, 2**31 - 1)) for _ in range(rng.randrange(4))], rng.choice(DTYPES[3:5]))


class Calls:
    """Calls of one op with arguments of its own.

    Attributes:
      op: the wrapper.
      arguments: what is right.
      variables: what the op may write.
    """

    def __init__(self, op, arguments, variables):
        self.op, self.arguments, self.variables = op, arguments, variables

    def values(self):
        return [v.numpy() for v in self.variables]

    def mutated(self, rng):
        """The arguments with one to three changes."""
        changed = dict(self.arguments)
        for name in rng.sample(sorted(changed), min(len(changed), rng.choice((1, 1, 2, 3)))):
            changed[name] = self._mutate(rng, changed[name], name)
        return changed

    def _mutate(self, rng, value, name):
        if isinstance(value, list):
            return self._mutate_list(rng, list(value), name)
        if isinstance(value, bool):
            return not value
        if isinstance(value, int):
            return rng.choice(INTS)
        if isinstance(value, str):
            return rng.choice((*STRINGS, *RULES))
        return tensor(rng)

    def _mutate_list(self, rng, items, name):
        kind = rng.randrange(6)
        if kind == 0 and items:
            del items[rng.randrange(len(items))]
        elif kind == 1 and items:
            items.insert(rng.randrange(len(items)), rng.choice(items))
        elif kind == 2:
            items = []
        elif kind == 3 and len(items) > 1:
            rng.shuffle(items)
        elif items:
            i = rng.randrange(len(items))
            items[i] = self._item(rng, items[i], name)
        else:
            items = [self._new_item(rng, name) for _ in range(rng.randrange(1, 4))]
        return items

    def _item(self, rng, item, name):
        if isinstance(item, bool):
            return not item
        if isinstance(item, int):
            return rng.choice((*INTS, *float64_bits(FLOATS)))
        if isinstance(item, str):
            return rng.choice(STRINGS)
        if item.dtype == tf.resource:
            return rng.choice(self.variables).handle
        return tensor(rng)

    def _new_item(self, rng, name):
        if name in ("averages", "accumulators", "loss_scale", "scalars", "iterations", "slots", "params"):
            return rng.choice(self.variables).handle
        if name in ("sparse", "inputs", "trace_indices", "option_values", "constants"):
            return rng.choice((*INTS, *float64_bits(FLOATS)))
        if name in ("names", "trace_sources", "option_names"):
            return rng.choice((*STRINGS, *_OPTION_NAMES))
        if name == "decays":
            return rng.choice((True, False))
        return sparse_indices(rng) if name == "indices" else tensor(rng)


_OPTION_NAMES = ("clipvalue", "clipnorm", "global_clipnorm", "weight_decay", "ema_momentum", "dynamic_growth_steps")


def step_calls(rule):
    call = FusedStepCall.make(rule)
    arguments = call.arguments | {
        "option_names": [],
        "option_values": [],
        "decays": [],
        "sparse": [],
        "sparse_rows": "every",
        "separate_duplicates": False,
        "trace_sources": ["param", "gradient"],
        "trace_indices": [0, 1],
        "buffers": [tf.zeros([4, *call.params[0].shape], tf.float64), tf.zeros([4, *call.params[1].shape], tf.float64)],
        "row_offset": 0,
        "advance": True,
        "in_loop": False,
    }
    variables = [*call.params, *itertools.chain(*call.slots), *call.scalars, call.iterations]
    return Calls(_build.OPS.fusemin_fused_step, arguments, variables)


def all_calls():
    assert set(RULES) <= _core.rules().keys()
    rows = {
        "row": 1,
        "count": 1,
        "values": [tf.ones([3]), tf.constant(2)],
        "buffers": [tf.zeros([4, 3]), tf.zeros([4], tf.int32)],
        "names": ["a", "b"],
        "row_offset": 0,
    }
    sums = {"gradients": [tf.ones([3]), tf.ones([2, 2])]}
    return [
        *map(step_calls, RULES),
        Calls(_build.OPS.fusemin_trace_rows, rows, []),
        Calls(_build.OPS.fusemin_gradient_sums, sums, []),
    ]


def run(mode, calls, arguments):
    if mode == "eager":
        return calls.op(**arguments)

    def fuzzed():
        return calls.op(**arguments)

    return tf.function(fuzzed, autograph=False, jit_compile=mode == "xla")()


def same(a, b):
    return all(np.array_equal(x, y, equal_nan=True) for x, y in zip(a, b, strict=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mode", choices=("eager", "graph", "xla"), required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    rng, everything = random.Random(options.seed), all_calls()
    counts = {"ran": 0, "refused": 0}
    for i in range(options.count):
        calls = rng.choice(everything)
        arguments, before = calls.mutated(rng), calls.values()
        if options.verbose:
            print(i, {k: v for k, v in arguments.items() if v is not calls.arguments[k]}, flush=True)
        try:
            run(options.mode, calls, arguments)
        except REFUSED as error:
            counts["refused"] += 1
            if not same(before, calls.values()):
                raise SystemExit(f"call {i} was refused and wrote: {error}") from error
        else:
            counts["ran"] += 1
            for variable, value in zip(calls.variables, before, strict=True):
                variable.assign(value)
    print(f"{options.mode}: {counts['ran']} ran, {counts['refused']} refused")


if __name__ == "__main__":
    main()
