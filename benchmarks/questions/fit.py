"""Keras' `model.fit`: time of an epoch with stock Adam, with `fuse`, and with an optimizer that updates nothing.

Models of Keras 3 on the digits of scikit-learn (1,797 images), in batches of 32, as a user compiles and fits them:
`model.compile(optimizer, loss)` and `model.fit(x, y, epochs=2)`. The optimizer without update stores each gradient in
a variable, so that all of them are computed, and counts the iterations. The share of the update is the part of the
time of an epoch that goes away with it: 1 - (time without update) / (time), the median over the rounds. Before each
fit variables and optimizer are set back to what they were at the start, which is not timed; the three models start
from the same values and see the same batches, and the losses of stock and fused must agree. Rounds are interleaved;
"times stock" is the median over the rounds of the time of stock by the row's.
"""

import functools
import statistics

import numpy as np

from benchmarks import plots
from benchmarks.question import Question
from benchmarks.report import progress
from benchmarks.rivals import fused, keep, keras_adam, make_sinks, restore_variables
from benchmarks.timing import Row, cases, interleave, measure, median_ratio, ratios

BATCH = 32
# Epochs of a fit, rows of the data, and rounds.
SIZES = {"smoke": (1, 64, 2), "full": (2, None, 15)}


def _dense(hidden):
    def layers(keras):
        return [*(keras.layers.Dense(n, activation="relu") for n in hidden), keras.layers.Dense(10)]

    return layers


def _convolutional(keras):
    return [
        keras.layers.Reshape((8, 8, 1)),
        keras.layers.Conv2D(16, 3, activation="relu"),
        keras.layers.Conv2D(32, 3, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(10),
    ]


def _embedding(keras):
    return [keras.layers.Embedding(64 * 17, 32), keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(10)]


# The layers, and whether XLA compiles the step.
MODELS = {
    "dense 64-64-10": (_dense([64]), False),
    "dense 64-512-512-10": (_dense([512, 512]), False),
    "dense, 20 layers of 32": (_dense([32] * 20), False),
    "convolutional": (_convolutional, False),
    "embedding 1088 x 32": (_embedding, False),
    "dense 64-64-10, jit_compile": (_dense([64]), True),
}
SMOKE_MODELS = ("dense 64-64-10", "embedding 1088 x 32")
STOCK, FUSED, NONE = "stock Adam", "fused Adam", "no update"


def _no_update(model):
    import keras

    class NoUpdate(keras.optimizers.Adam):
        """Adam whose step keeps the gradients and counts."""

        sinks = make_sinks([v.value for v in model.trainable_variables])

        def apply(self, grads, trainable_variables=None):
            del trainable_variables
            keep(grads, self.sinks)
            self.iterations.assign_add(1)

    return NoUpdate(1e-3)


OPTIMIZERS = {
    STOCK: lambda model: keras_adam(1e-3),
    FUSED: lambda model: fused(keras_adam(1e-3)),
    NONE: _no_update,
}


def _data(name, num_rows):
    from sklearn import datasets

    images, labels = datasets.load_digits(return_X_y=True)
    images, labels = images[:num_rows], labels[:num_rows].astype(np.int32)
    if "embedding" in name:
        # A token for each pixel and grey value.
        return (np.arange(64) * 17 + images).astype(np.int32), labels
    return (images / 16).astype(np.float32), labels


class _Fitted:
    """A model that is compiled and was fitted once."""

    def __init__(self, name, layers, jit_compile, make_optimizer, epochs, num_rows):
        import keras

        self._x, self._y = _data(name, num_rows)
        self._epochs = epochs
        keras.utils.set_random_seed(0)
        self._model = keras.Sequential(layers(keras))
        self._model.build(self._x.shape)
        optimizer = make_optimizer(self._model)
        # Keras decides by itself, unless told: on the CPU against XLA.
        self._model.compile(
            optimizer,
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=True if jit_compile else "auto",
        )
        optimizer.build(self._model.trainable_variables)
        # A variable of both is one.
        unique = {id(v): v for v in [*self._model.variables, *optimizer.variables]}
        self._state = list(unique.values())
        self._start = [v.value + 0 for v in self._state]
        self.losses = self._fit().history["loss"]
        self.num_variables = len(self._model.trainable_variables)
        self.num_elements = self._model.count_params()

    def _fit(self):
        return self._model.fit(self._x, self._y, batch_size=BATCH, epochs=self._epochs, shuffle=False, verbose=0)

    def sample(self):
        """Seconds per epoch."""
        restore_variables(self._state, self._start)
        return measure(self._fit).wall / self._epochs


def _run(size, rounds):
    epochs, num_rows, usual_rounds = SIZES[size]
    rows = []
    for name in MODELS if size == "full" else SMOKE_MODELS:
        layers, jit_compile = MODELS[name]
        progress(f"fit: {name}")
        fitted = {
            rival: _Fitted(name, layers, jit_compile, make, epochs, num_rows) for rival, make in OPTIMIZERS.items()
        }
        np.testing.assert_allclose(fitted[FUSED].losses, fitted[STOCK].losses, rtol=1e-2)
        samples = interleave({rival: model.sample for rival, model in fitted.items()}, rounds or usual_rounds)
        here = {}
        for rival, model in fitted.items():
            facts = {"variables": model.num_variables, "elements": model.num_elements}
            here[rival] = Row(name, rival, "s", samples[rival], facts)
        for row in here.values():
            row.facts["times stock"] = median_ratio(here[STOCK], row)
            if row.rival != NONE:
                row.facts["share of the update"] = statistics.median(1 - r for r in ratios(here[NONE], row))
        rows += here.values()
    return rows


def _summarize(rows):
    lines = []
    for case, here in cases(rows).items():
        stock, ours, _ = here
        lines.append(
            f"{case}: an epoch is {ours.facts['times stock']:.2f} times as fast with fuse; the update was "
            f"{stock.facts['share of the update']:.0%} of it and is {ours.facts['share of the update']:.0%}"
        )
    return lines


QUESTION = Question(
    name="fit",
    title="How long does an epoch of model.fit take?",
    method=__doc__,
    run=_run,
    summarize=_summarize,
    plot=functools.partial(plots.bars, label="ms an epoch", scale=1e3),
)
