"""Every rule, dtype and instruction set of `fusemin._core` against `rules_in_numpy`."""

import numpy as np
import pytest

from fusemin import _core
from tests.support.kernel_step import (
    DTYPES,
    MIN_BYTES_PER_THREAD,
    ROW_CHUNK,
    SHARE_ALIGNMENT,
    assert_same_bits,
    draw,
    largest_ulps,
    run,
    run_reference,
)
from tests.support.rules_in_numpy import NEGLIGIBLE, RULES, SAME

# In units in the last place; for float64 that is at most 4.5e-16 of the value. The references do the same operations in
# the same order, so on x86-64 the measured differences are 0: what is left is for another C library's pow.
LIMITS = {"float32": 2, "float64": 2, "float16": 1, "bfloat16": 1}
# Empty, one, around a vector of any instruction set with its remainders, and many.
SIZES = [0, 1, 7, 63, 64, 65, 4097]

every_rule = pytest.mark.parametrize("rule", RULES)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
every_isa = pytest.mark.parametrize("isa", _core.isas())


def test_the_table_has_every_rule_of_the_build():
    table = {
        name: {part: tuple(getattr(row, part)) for part in ("hyperparameters", "slots", "scalars", "step_sums")}
        for name, row in RULES.items()
    }
    assert table == _core.rules()


@every_rule
@every_dtype
@every_isa
def test_agrees_with_numpy(rule, dtype, isa, record_difference):
    largest = (0, "")
    for seed in range(5):
        inputs = draw(rule, dtype, SIZES, seed)
        largest = max(largest, largest_ulps(run(inputs, isa=isa), run_reference(inputs), rule))
    measured, name = largest
    limit = LIMITS[dtype]
    record_difference(f"{dtype}, ulp, kernel and NumPy", measured, limit, f"{rule} {isa} {name}")
    assert measured <= limit, f"{rule}, {isa}: {name} differs by {measured} ulp from NumPy, the limit is {limit}"


@pytest.mark.parametrize("rule", [rule for rule, row in RULES.items() if row.displacement is not None])
@every_isa
def test_constant_gradient_gives_the_closed_form(rule, isa):
    """Several steps from zero slots, in float64, against algebra that knows nothing of the order of operations."""
    row, num_steps = RULES[rule], 25
    h = {name: np.mean(limits) for name, limits in row.hyperparameters.items()}
    h |= {name: 0.0 for name in h.keys() & NEGLIGIBLE}
    h |= {name: h[SAME[name]] for name in h.keys() & SAME.keys()}
    scalars = list(row.first_scalars(h).values())
    param, slots = np.ones(9), [[np.zeros(9)] for _ in row.slots]
    for step in range(1, num_steps + 1):
        scalars = _core.step(
            rule,
            [param],
            [np.ones(9)],
            slots=slots,
            hyperparameters=list(h.values()),
            scalars=scalars,
            step=step,
            isa=isa,
        )
    np.testing.assert_allclose(param, 1 + row.displacement(h, num_steps), rtol=1e-12)


@every_rule
@every_dtype
def test_every_isa_gives_the_same_bits(rule, dtype):
    inputs = draw(rule, dtype, SIZES)
    narrowest, *wider = _core.isas()
    expected = run(inputs, isa=narrowest)
    for isa in wider:
        assert_same_bits(run(inputs, isa=isa), expected, isa)


@every_rule
@every_dtype
@pytest.mark.parametrize("num_threads", [2, 3, 7])
@pytest.mark.parametrize("more", [-1, 0, 1], ids=["one task fewer", "at the limit", "one element more"])
def test_every_number_of_threads_gives_the_same_bits(rule, dtype, num_threads, more):
    element_bytes = (3 + 2 * len(RULES[rule].slots)) * DTYPES[dtype].itemsize
    # The least total for which so many threads are worthwhile.
    total = -(-num_threads * MIN_BYTES_PER_THREAD // element_bytes) + more
    blocks = -(-total // SHARE_ALIGNMENT)
    shares = [blocks * task // num_threads * SHARE_ALIGNMENT for task in range(1, num_threads)]
    # Tensors that end one before, at and one after the begin of each share.
    ends = sorted({share + offset for share in shares for offset in (-1, 0, 1)} | {total})
    inputs = draw(rule, dtype, np.diff([0, *ends]))
    expected = run(inputs, num_threads=1)
    assert_same_bits(run(inputs, num_threads=num_threads), expected, f"{num_threads} threads")


def test_fewer_than_one_thread_is_one():
    inputs = draw("adam", "float32", SIZES)
    for num_threads in (0, -3):
        assert_same_bits(run(inputs, num_threads=num_threads), run(inputs), f"{num_threads} threads")


@every_rule
@every_dtype
@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize("names", [["gradient_rows"], ["param_rows"], ["gradient_rows", "param_rows"]])
def test_rows_receive_gradients_and_new_parameters(rule, dtype, num_threads, names):
    # Of all that a step reads and writes, without the rows: enough for so many threads.
    element_bytes = (3 + 2 * len(RULES[rule].slots)) * DTYPES[dtype].itemsize
    large = -(-num_threads * MIN_BYTES_PER_THREAD // element_bytes) if num_threads > 1 else 0
    sizes = [0, 1, *(n * ROW_CHUNK + offset for n in (1, 2, 3) for offset in (-1, 0, 1)), large]
    inputs = draw(rule, dtype, sizes)
    # Row 1 of 3, as in a trace: what lies around it is not to change.
    traces = {name: [np.full((3, size), 77, DTYPES[dtype]) for size in sizes] for name in names}
    rows = {name: [trace[1] for trace in traces[name]] for name in names}
    result = run(inputs, num_threads=num_threads, **rows)
    assert_same_bits(result, run(inputs), "with rows,")
    expected = {"gradient_rows": inputs.gradients, "param_rows": [result[f"params[{i}]"] for i in range(len(sizes))]}
    for name in names:
        for row, want in zip(rows[name], expected[name], strict=True):
            assert_same_bits({name: row}, {name: want})
        assert all((trace[[0, 2]] == 77).all() for trace in traces[name])


@every_rule
@every_dtype
@every_isa
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_numbers_stay_where_they_are(rule, dtype, isa, bad):
    clean = draw(rule, dtype, SIZES)
    undisturbed = run(clean, isa=isa)
    rng = np.random.default_rng(1)
    spoiled = [rng.random(size) < 0.1 for size in SIZES]
    for kind in range(2 + len(clean.slots)):
        inputs = clean.with_numbers(kind, bad, spoiled)
        got, want = run(inputs, isa=isa), run_reference(inputs)
        assert largest_ulps(got, want, rule)[0] <= LIMITS[dtype]
        scalars = got.pop("scalars")
        if not RULES[rule].step_sums:
            np.testing.assert_array_equal(scalars, undisturbed["scalars"])
        for name, result in got.items():
            if RULES[rule].has_sums and name.startswith("params"):
                continue  # A norm takes it to the whole parameter, as the reference does.
            clear = ~spoiled[int(name.split("[")[1].rstrip("]"))]
            assert_same_bits({name: result[clear]}, {name: undisturbed[name][clear]}, f"kind {kind} spoiled,")
