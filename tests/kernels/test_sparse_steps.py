"""Sparse gradients in `fusemin._core`, against the dense step on what they mean, which NumPy spells out."""

import numpy as np
import pytest

from fusemin import _core
from tests.support.kernel_step import DTYPES, MIN_BYTES_PER_THREAD, assert_same_bits, draw, run, value_type
from tests.support.rules_in_numpy import RULES

# Vectors and matrices, rows longer than a chunk, rows of which a chunk holds many, without rows, with empty rows.
SHAPES = [(33,), (7, 5), (4, 2, 3), (300, 17), (3, 5000), (0, 3), (3, 0)]
ROWS = ["every", "slots_of_every", "touched"]

every_rule = pytest.mark.parametrize("rule", RULES)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


class SparseStep:
    """Inputs of a step whose gradients are all slices, and the gradients and rows that they mean."""

    def __init__(self, rule, dtype, shapes=SHAPES, index_dtype=np.int64, seed=0):
        rng = np.random.default_rng(seed)
        self.inputs = draw(rule, dtype, [int(np.prod(shape)) for shape in shapes], seed)
        self.shapes = shapes
        self.values, self.indices = [], []
        for shape in shapes:
            # Of a tensor without rows none, of one of three as many as make duplicates certain.
            num_slices = 0 if shape[0] == 0 else int(rng.integers(shape[0] // 2, shape[0] + 2))
            self.indices.append(rng.integers(0, max(shape[0], 1), num_slices).astype(index_dtype))
            values = rng.standard_normal((num_slices, *shape[1:])) * 10.0 ** rng.uniform(-3, 1)
            self.values.append(values.astype(self.inputs.dtype))

    def shaped(self, arrays):
        return [x.reshape(shape) for x, shape in zip(arrays, self.shapes, strict=True)]

    def run(self, **options):
        """As `kernel_step.run`."""
        a = self.inputs.arguments()
        a["params"], a["slots"] = self.shaped(a["params"]), [self.shaped(slot) for slot in a["slots"]]
        scalars = _core.step(**{**a, "gradients": self.values}, indices=self.indices, **options)
        return self.by_name(a["params"], a["slots"]) | {"scalars": np.array(scalars)}

    def by_name(self, params, slots):
        tensors = {"params": params, **dict(zip(RULES[self.inputs.rule].slots, slots, strict=True))}
        return {f"{name}[{i}]": x.reshape(-1) for name, arrays in tensors.items() for i, x in enumerate(arrays)}

    def dense_gradients(self, change=lambda values: values):
        """Sums in the order of the slices, in the type that is computed in, rounded once."""
        dense = []
        for values, indices, shape in zip(self.values, self.indices, self.shapes, strict=True):
            total = np.zeros(shape, value_type(self.inputs.dtype))
            for value, index in zip(change(values.astype(total.dtype)), indices, strict=True):
                total[index] += value
            dense.append(total.astype(self.inputs.dtype).reshape(-1))
        return dense

    def dense_run(self, change=lambda values: values, **options):
        inputs = self.inputs
        return run(type(inputs)(**{**vars(inputs), "gradients": self.dense_gradients(change)}), **options)

    def untouched(self, name):
        """Which elements of an array have no slice."""
        i = int(name.split("[")[1].rstrip("]"))
        touched = np.zeros(self.shapes[i], bool)
        touched[self.indices[i]] = True
        return ~touched.reshape(-1)

    def expected(self, rows, **options):
        """What the dense step gives, with what is not to change put back."""
        expected, before = self.dense_run(**options), self.by_name(self.inputs.params, self.inputs.slots)
        for name, old in before.items():
            if rows == "touched" or (rows == "slots_of_every" and name.startswith("params")):
                expected[name] = np.where(self.untouched(name), old, expected[name])
        return expected


def modes_of(rule):
    return ROWS[:1] if RULES[rule].has_sums else ROWS


@every_rule
@every_dtype
@pytest.mark.parametrize("index_dtype", [np.int32, np.int64])
def test_slices_are_summed_and_mean_a_dense_gradient(rule, dtype, index_dtype):
    step = SparseStep(rule, dtype, index_dtype=index_dtype)
    for rows in modes_of(rule):
        expected = step.expected(rows)
        for isa in _core.isas():
            assert_same_bits(step.run(sparse_rows=rows, isa=isa), expected, f"{rows} {isa}")


@every_rule
@pytest.mark.parametrize("num_threads", [2, 3, 7])
def test_every_number_of_threads_gives_the_same_bits(rule, num_threads):
    shapes = [*SHAPES, (num_threads * MIN_BYTES_PER_THREAD // 64, 8)]
    for separate in (False, True):
        step = SparseStep(rule, "float32", shapes)
        for rows in modes_of(rule):
            options = {"sparse_rows": rows, "separate_duplicates": separate}
            assert_same_bits(step.run(num_threads=num_threads, **options), step.run(**options), rows)


@pytest.mark.parametrize("rule", ["sgd", "adam", "lamb"])
@every_dtype
@pytest.mark.parametrize("clips", [False, True])
def test_rows_receive_the_sums_and_the_new_parameters(rule, dtype, clips):
    step = SparseStep(rule, dtype)
    options = {"options": {"clipvalue": 0.01}} if clips else {}
    for rows in modes_of(rule):
        traced = {
            name: [np.full(shape, 77, step.inputs.dtype) for shape in SHAPES]
            for name in ("gradient_rows", "param_rows")
        }
        got = step.run(sparse_rows=rows, **traced, **options)
        assert_same_bits(got, step.run(sparse_rows=rows, **options), "with rows,")
        for i, dense in enumerate(step.dense_gradients()):
            np.testing.assert_array_equal(traced["gradient_rows"][i].reshape(-1), dense)
            np.testing.assert_array_equal(traced["param_rows"][i].reshape(-1), got[f"params[{i}]"])


@pytest.mark.parametrize("rule", ["sgd_momentum", "adam", "lamb"])
def test_clipping_is_of_each_slice_and_by_the_norm_of_all_slices(rule):
    step = SparseStep(rule, "float64")
    norms = [np.sqrt(np.sum(np.square(v))) for v in step.values]
    everything = np.sqrt(np.sum(np.square(norms)))
    clipped = step.run(options={"clipvalue": 0.05})
    assert_same_bits(clipped, step.dense_run(lambda v: np.clip(v, -0.05, 0.05)))
    for name, expected in step.dense_run(lambda v: v * (0.5 / everything)).items():
        got = step.run(options={"global_clipnorm": 0.5})[name]
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-300, err_msg=name)
    for name, expected in step.dense_run(lambda v: v * (0.5 / max(np.sqrt(np.sum(v * v)), 0.5))).items():
        got = step.run(options={"clipnorm": 0.5})[name]
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-300, err_msg=name)


@pytest.mark.parametrize("applies", [False, True])
def test_accumulators_take_the_slices(applies):
    step = SparseStep("adam", "float64")
    accumulators = [[np.full(shape, 0.5) for shape in SHAPES] for _ in range(2)]
    options = {"gradient_accumulation_steps": 2, "clipnorm": 0.5, "weight_decay": 0.1}
    step.inputs.step = 6 if applies else 5
    got = step.run(options=options, accumulators=accumulators[0])
    dense = step.dense_run(options=options, accumulators=step.shaped(accumulators[1]))
    assert_same_bits(got, dense)
    for a, b in zip(*accumulators, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("rows", ROWS)
def test_decay_and_averages_are_of_every_row(rows):
    step = SparseStep("adagrad", "float64")
    options = {"weight_decay": 0.1, "ema_momentum": 0.75}
    averages = [[np.full(shape, 0.5) for shape in SHAPES] for _ in range(2)]
    # A gradient of 0 leaves an Adagrad as it is, so that the three modes are one.
    got = step.run(sparse_rows=rows, options=options, averages=averages[0])
    assert_same_bits(got, step.dense_run(options=options, averages=averages[1]))
    for a, b in zip(*averages, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_duplicates_may_be_squared_one_by_one(dtype):
    """As Keras does. The velocity of Adam is a mean of squares, the norm of Adamax a maximum of magnitudes."""
    for rule, power in (("adam", np.square), ("adamax", np.abs)):
        step = SparseStep(rule, dtype)
        got, summed = step.run(separate_duplicates=True), step.dense_run()
        h = step.inputs.hyperparameters
        powers = step.dense_gradients(power)
        for i, old in enumerate(step.inputs.slots[1]):
            if rule == "adam":
                want, name = old + (powers[i] - old) * (1 - h["beta_2"]), f"velocity[{i}]"
            else:
                want, name = np.maximum(old * h["beta_2"], powers[i]), f"norm[{i}]"
            np.testing.assert_allclose(got[name], want, rtol=4 * np.finfo(dtype).eps, err_msg=name)
            np.testing.assert_array_equal(got[f"momentum[{i}]"], summed[f"momentum[{i}]"])


@every_rule
def test_without_duplicates_there_is_nothing_to_separate(rule):
    step = SparseStep(rule, "float32")
    for i, shape in enumerate(SHAPES):
        step.indices[i] = np.random.default_rng(i).permutation(shape[0])
        step.values[i] = np.resize(step.values[i], shape)
    assert_same_bits(step.run(separate_duplicates=True), step.run())


@pytest.mark.parametrize("bad", [-1, 7])
def test_an_index_out_of_range_is_refused(bad):
    step = SparseStep("adam", "float32")
    step.indices[1] = np.array([0, bad])
    step.values[1] = np.zeros((2, 5), np.float32)
    with pytest.raises(ValueError, match=r"indices\[1\] must be rows of the parameter, position 1 is not"):
        step.run()


@pytest.mark.parametrize(
    ("indices", "error", "message"),
    [
        (np.zeros(2, np.int16), TypeError, "must be of int32 or int64, not int16"),
        (np.zeros((2, 1), np.int64), ValueError, "contiguous vector"),
        (np.zeros(3, np.int64), ValueError, r"gradients\[0\] must have 15 elements"),
    ],
)
def test_indices_that_do_not_fit(indices, error, message):
    params, values = [np.zeros((7, 5))], [np.zeros((2, 5))]
    with pytest.raises(error, match=message):
        _core.step("sgd", params, values, hyperparameters=[0.1], indices=[indices])


def test_a_mode_that_is_none():
    with pytest.raises(ValueError, match="sparse_rows must be"):
        SparseStep("adam", "float32").run(sparse_rows="some")
