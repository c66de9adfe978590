"""SavedModels with signatures that train: what they need to be loaded."""

import concurrent.futures
import contextlib
import functools
import json
import logging
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import fusemin
from fusemin.update.plan import plan

NUM_STEPS = 3

OPTIMIZERS = {
    "keras": lambda: keras.optimizers.Adam(0.1),
    "tf_keras": lambda: tf_keras.optimizers.Adam(0.1),
    "tf_keras legacy": lambda: tf_keras.optimizers.legacy.Adam(0.1),
}


class Trained(tf.Module):
    """A module with a signature that trains, one that fits, and one that serves."""

    def __init__(self, optimizer):
        super().__init__()
        self.x = tf.Variable([1.0, 2.0])
        self.optimizer = optimizer
        optimizer.build([self.x])

    def loss(self, y):
        return tf.reduce_sum((self.x - y) ** 2)

    @tf.function(input_signature=[tf.TensorSpec([2])])
    def train(self, y):
        with tf.GradientTape() as tape:
            loss = self.loss(y)
        self.optimizer.apply_gradients([(tape.gradient(loss, self.x), self.x)])
        return {"loss": loss}

    @tf.function(input_signature=[tf.TensorSpec([2])])
    def fit(self, y):
        trace_fn = lambda traced: {"loss": traced.loss, "twice": 2.0 * traced.parameters[0]}  # noqa: E731
        return fusemin.minimize(
            lambda: self.loss(y), NUM_STEPS, self.optimizer, trainable_variables=[self.x], trace_fn=trace_fn
        )

    @tf.function(input_signature=[tf.TensorSpec([2])])
    def serve(self, y):
        return {"distance": tf.norm(self.x - y)}


Y = [3.0, -1.0]

# Loads each folder and calls its signatures, each of a model as it was saved.
SCRIPT = """
import json, sys
import tensorflow as tf

results = {}
for path in sys.argv[2:]:
    try:
        signatures = tf.saved_model.load(path).signatures
        results[path] = {}
        for name in sorted(signatures):
            loaded = tf.saved_model.load(path)
            for _ in range(NUM_STEPS):
                returned = loaded.signatures[name](tf.constant(Y))
            tensors = [t for _, t in sorted(returned.items())] + [loaded.x]
            results[path][name] = [t.numpy().tolist() for t in tensors]
    except Exception as error:
        results[path] = str(error)
assert "import fusemin" in open(sys.argv[0]).read() or "fusemin" not in sys.modules
json.dump(results, open(sys.argv[1], "w"))
"""


def make(family):
    optimizer = OPTIMIZERS[family]()
    if family == "tf_keras legacy":
        # These have no `build`; they make slots at the first step.
        optimizer.build = optimizer._create_all_weights
    return Trained(fusemin.fuse(optimizer))


def here(family):
    """What the script gives of a model that was not saved."""
    results = {}
    for name in ("fit", "serve", "train"):
        module = make(family)
        for _ in range(NUM_STEPS):
            returned = getattr(module, name)(tf.constant(Y))
        results[name] = [t.numpy() for _, t in sorted(returned.items())] + [module.x.numpy()]
    return results


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """By whether fusemin was imported, and by the name of a folder: what the script says of it."""
    folder = tmp_path_factory.mktemp("saved")
    for family in OPTIMIZERS:
        for kind, context in (("fused", contextlib.nullcontext()), ("stock", fusemin.stock())):
            module = make(family)
            signatures = {name: getattr(module, name) for name in ("fit", "serve", "train")}
            with context:
                tf.saved_model.save(module, folder / f"{kind} {family}", signatures)
    module = make("keras")
    module.train(tf.constant(Y))
    # Nothing but what serves is exported: a module keeps every function that it has traced.
    serving = tf.Module()
    serving.x, serving.serve = module.x, module.serve
    tf.saved_model.save(serving, folder / "serving", {"serve": serving.serve})
    paths = sorted(map(str, folder.iterdir()))

    @functools.cache
    def run(imports):
        script, results = folder / f"{imports}.py", folder / f"{imports}.json"
        constants = f"Y, NUM_STEPS = {Y}, {NUM_STEPS}\n"
        script.write_text(("import fusemin\n" if imports else "") + constants + SCRIPT)
        subprocess.run([sys.executable, script, results, *paths], check=True, timeout=600)
        return {pathlib.Path(path).name: value for path, value in json.loads(results.read_text()).items()}

    return run


def assert_same(results, expected):
    assert results.keys() == expected.keys()
    for name, tensors in expected.items():
        for tensor, other in zip(results[name], tensors, strict=True):
            np.testing.assert_allclose(tensor, other, rtol=1e-6, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("family", OPTIMIZERS)
def test_fused_signatures_load_after_import_fusemin(loaded, family):
    assert_same(loaded(True)[f"fused {family}"], here(family))
    assert "Fusemin>" in loaded(False)[f"fused {family}"]


@pytest.mark.parametrize("imports", [True, False], ids=["with fusemin", "without fusemin"])
@pytest.mark.parametrize("family", OPTIMIZERS)
def test_signatures_of_stock_ops_load_anywhere(loaded, family, imports):
    assert_same(loaded(imports)[f"stock {family}"], here(family))


def test_signatures_that_serve_need_nothing(loaded):
    [result] = loaded(False)["serving"].values()
    module = make("keras")
    module.train(tf.constant(Y))
    np.testing.assert_allclose(result[0], module.serve(tf.constant(Y))["distance"], rtol=1e-6)


def op_types(function):
    """All ops of a function and of those that it calls."""
    definition = function.get_concrete_function().graph.as_graph_def()
    nodes = [*definition.node, *(n for f in definition.library.function for n in f.node_def)]
    return {node.op for node in nodes}


TRACES = {
    "loss": lambda traced: traced.loss,
    "parameters": lambda traced: traced.parameters,
    "derived": lambda traced: {"a": 2 * traced.loss, "b": tf.as_string(traced.step), "c": traced.gradients[0]},
    # Its shape is known at the first step only.
    "unknown shape": lambda traced: tf.boolean_mask(traced.parameters[0], traced.parameters[0] < 1e9),
}


@pytest.mark.parametrize("criterion", [False, True], ids=["", "criterion"])
@pytest.mark.parametrize("trace", TRACES)
def test_minimize_inside_of_stock(trace, criterion):
    x = tf.Variable([1.0, 2.0])
    optimizer = fusemin.fuse(keras.optimizers.SGD(0.1))

    def function():
        return fusemin.minimize(
            lambda: tf.reduce_sum((x - 3.0) ** 2),
            20,
            optimizer,
            trainable_variables=[x],
            trace_fn=TRACES[trace],
            convergence_criterion=fusemin.LossNotDecreasing(atol=0.1, min_num_steps=5) if criterion else None,
        )

    fused = function()
    x.assign([1.0, 2.0])
    with fusemin.stock():
        in_graph = tf.function(function)
        assert not [op for op in op_types(in_graph) if "Fusemin" in op]
        eager = function()
    tf.nest.map_structure(np.testing.assert_array_equal, fused, eager)
    x.assign([1.0, 2.0])
    tf.nest.map_structure(np.testing.assert_array_equal, fused, in_graph())


def test_eager_steps_inside_of_stock_and_after_it(caplog):
    x = tf.Variable(1.0)
    optimizer = fusemin.fuse(keras.optimizers.SGD(0.5))
    for context, reason in ((fusemin.stock(), "inside of fusemin.stock()"), (contextlib.nullcontext(), "in one op")):
        caplog.clear()
        with caplog.at_level(logging.DEBUG, "fusemin"), context:
            optimizer.apply_gradients([(tf.constant(1.0), x)])
            explained = str(fusemin.explain(optimizer, [x]))
        assert reason in caplog.text
        assert ("inside of fusemin.stock()" in explained) == ("inside" in reason)
    assert float(x) == 0.0


def test_stock_ends_with_an_error_and_counts_for_its_thread_only():
    def reason():
        return plan(keras.optimizers.SGD(0.5), [tf.Variable(1.0)]).reason

    def fail():
        with fusemin.stock():
            with fusemin.stock():
                assert "stock" in reason()
            assert "stock" in reason()
            with concurrent.futures.ThreadPoolExecutor() as pool:
                assert pool.submit(reason).result() is None
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert reason() is None
