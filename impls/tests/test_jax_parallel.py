"""Do JAX's parallel recurrences say truly how they found their result, and do they end where nothing contracts?

That results and gradients conform is judged elsewhere: they are a subject of their own.
"""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmrec.impls.jax_ops import gated_recurrence, stabilized_recurrence
from mmrec.impls.jax_ops.parallel import (
    _products,
    _room,
    checked,
    gated_recurrence_parallel,
    stabilized_recurrence_parallel,
)

UNIT = {"float32": 2.0**-24, "float64": 2.0**-53}
OPS = {
    "gated": (gated_recurrence, gated_recurrence_parallel),
    "stabilized": (stabilized_recurrence, stabilized_recurrence_parallel),
}
CONTRACTING = {"gated": 1.0, "stabilized": 3.0}  # the size of z with which much is forgotten in a step (REC-PAR-5)
every_op = pytest.mark.parametrize("op", OPS)


@pytest.fixture(autouse=True)
def strict_jax():
    """Let JAX refuse every implicit promotion of dtype or rank; float64 is there for those who ask."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


STEPS = 32  # of a chunk. Everything is compiled once for a shape, which takes seconds: most tests share one


def arguments(op="gated", B=2, T=256, D=32, gamma=0.05, z=None, weight=1.0, dtype="float32", seed=0):
    normal = np.random.default_rng(seed).standard_normal
    z = (z or CONTRACTING[op]) * normal((B, T, D))
    decay, W, b, h0 = np.full((B, T, D), gamma), weight * normal((D, D)) / D**0.5, normal(D), normal((B, D))
    arrays = (z, decay, W, b, h0)
    if op == "stabilized":
        arrays = (z, normal((B, T, D)), decay, W, b, 1 + 0.3 * normal(D), 0.3 * normal(D), h0)
    return [jnp.asarray(array).astype(dtype) for array in arrays]


def missed_and_granted(arrays, h):
    """How far every state of h lies from one exact step, and what NUM-5 grants to the rounding of each."""
    z, gamma, W_g, b_g, h0, states = (np.asarray(array.astype("float64"), np.longdouble) for array in (*arrays, h))
    before = np.concatenate([h0[:, None], states[:, :-1]], axis=1)
    gate = 1 / (1 + np.exp(-(before @ W_g.T + b_g)))
    inflow = z * gate
    step = inflow + gamma * before
    terms = np.abs(before) @ np.abs(W_g).T + np.abs(b_g)
    of_inflow = 9 + (W_g.shape[0] + 1) * (1 - gate) * terms  # the sigmoid 8, the inflow 1, the logits any order
    granted = np.abs(gamma * before) + np.abs(step) + of_inflow * np.abs(inflow)
    return np.abs(states - step), UNIT[str(h.dtype)] * granted


def with_gradients(op, arrays, **options):
    """What the op returns, and the gradients of a loss of its states."""

    def loss(*arrays):
        result = op(*arrays, **options)
        h = result[0] if isinstance(result, tuple) else result
        return jnp.cos(h.astype("float64")).sum(), result

    gradients, result = jax.grad(loss, range(len(arrays)), has_aux=True)(*arrays)
    return result, gradients


# ---- REC-PAR-1, REC-PAR-2: the result and its certificate ------------------------------------------
@every_op
def test_rec_par_2_a_contracting_recurrence_takes_a_fraction_of_the_steps(op):
    h, report = OPS[op][1](*arguments(op), chunk=STEPS)
    assert not report.fell_back
    assert report.passes <= 3
    assert report.depth < 128
    assert h.shape == (2, 256, 32)


@pytest.mark.parametrize(
    ("gamma", "dtype", "T", "chunk"),
    ((0.5, "float32", 256, STEPS), (0.9, "float32", 256, STEPS), (0.5, "float64", 255, 37)),
)
def test_rec_par_1_every_step_is_as_near_the_exact_one_as_a_rounding(gamma, dtype, T, chunk):
    """Splices included, and chunks of which the last is not full."""
    arrays = arguments(T=T, gamma=gamma, dtype=dtype)
    h, report = gated_recurrence_parallel(*arrays, chunk=chunk)
    missed, granted = missed_and_granted(arrays, h)
    assert not report.fell_back
    assert report.defect > 0
    assert np.all(missed <= granted)


@every_op
def test_rec_par_2_no_step_has_a_larger_defect_than_the_report_says(op):
    """Steps that were taken err by their rounding only; the largest difference to one step is at a splice."""
    arrays = arguments(op, gamma=0.5)
    h, report = OPS[op][1](*arrays, chunk=STEPS)
    *inputs, h0 = (array.astype("float64") for array in arrays)
    before = jnp.concatenate([h0[:, None], h[:, :-1].astype("float64")], axis=1).reshape(-1, 32)
    inputs = [array.reshape(-1, 1, 32) if array.ndim == 3 else array for array in inputs]
    step = OPS[op][0](*inputs, before).reshape(h.shape)  # one step in float64 from each state that was returned
    defects = jnp.abs(h.astype("float64") - step).max(2) / jnp.abs(h.astype("float64")).max(2)
    taken = 8 * UNIT["float32"]  # the sigmoid's 4 ulp; measured 3 u
    assert report.defect > 0
    assert defects.max() <= report.defect.item() + taken


def test_rec_par_2_a_long_memory_is_carried_by_the_scan():
    """A chunk keeps 0.99^64, a half, of what it begins with: without the scan, each needs all chunks before it."""
    _, report = gated_recurrence_parallel(*arguments(B=1, T=2048, D=64, gamma=0.99, z=0.1), chunk=64)
    assert not report.fell_back
    assert report.depth < 1024


def test_rec_par_2_without_chunks_to_splice_there_is_no_defect():
    _, report = gated_recurrence_parallel(*arguments(T=16), chunk=16)
    assert [number.item() for number in report] == [0.0, 1, False, 16]


@every_op
def test_no_steps_take_no_pass_and_have_gradients_of_zero(op):
    arrays = arguments(op, T=0)
    (h, report), gradients = with_gradients(OPS[op][1], arrays)
    assert h.shape == (2, 0, 32)
    assert (report.passes, report.depth) == (0, 0)
    for gradient, array in zip(gradients, arrays, strict=True):
        np.testing.assert_array_equal(gradient, jnp.zeros_like(array))


# ---- what a splice may err by ----------------------------------------------------------------------
def test_the_distance_from_a_sum_is_measured_finer_than_float32():
    rng = np.random.default_rng(0)
    summand, gamma, x, off = (jnp.asarray(rng.standard_normal(10_000), "float32") for _ in range(4))
    stored = summand + gamma * x + 2**-22 * off
    missed, _ = jax.jit(_room.distance_and_room)(stored, summand, gamma, x)
    s, c, g, y = (np.asarray(array, "float64") for array in (stored, summand, gamma, x))
    measured_off = np.abs(np.asarray(missed, "float64") - (s - (c + g * y)))
    assert np.all(measured_off <= (1 - _room.KEPT) * UNIT["float32"] * np.maximum(np.abs(g * y), np.abs(s)))


@pytest.mark.parametrize(
    ("summand", "gamma", "x", "units"),
    (
        (1.0, 0.3, 3.0, 0.9 + 1.9),
        (1.0, 0.5, 3.0, 2.5),
        (0.0, 0.3, 3.0, 0.9),
        (0.0, 1.0, 3.0, 0.0),
        (2.0, 0.0, 3.0, 0.0),
    ),
)
def test_there_is_room_where_something_rounds(summand, gamma, x, units):
    arrays = (jnp.float32(number) for number in (summand + gamma * x, summand, gamma, x))
    _, room = _room.distance_and_room(*arrays)
    np.testing.assert_allclose(room, units * UNIT["float32"], rtol=2**-10)  # of |gamma x| the leading half is taken


@pytest.mark.parametrize(("missed", "room"), ((0.0, 1e-37), (1.0, np.inf), (np.inf, np.inf), (np.nan, 1.0), (1.0, 1.0)))
def test_no_splice_is_granted_near_underflow_or_overflow_or_at_the_edge_of_the_room(missed, room):
    assert not _room.within(jnp.float32(missed), jnp.float32(room), 1.0)


@pytest.mark.parametrize("D", (1, 5, 64))
def test_products_with_narrow_weights_lose_nothing(D):
    """Small whole numbers times powers of two: every order of the sum is exact."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.integers(-(2**16), 2**16, (3, D)) / 2**9, "float32")
    weight = jnp.asarray(rng.integers(-1, 2, (7, D))).astype("bfloat16")
    expected = np.asarray(x, "float64") @ np.asarray(weight.astype("float64")).T
    for product in (_products.product, _products.product_in_blocks):
        np.testing.assert_array_equal(product(x, weight), expected)


def test_infinite_and_very_large_states_survive_the_parts_of_a_narrow_product():
    largest = float(jnp.finfo("float32").max)
    x = jnp.asarray([[jnp.inf], [-largest], [jnp.nan]], "float32")
    np.testing.assert_array_equal(_products.product(x, jnp.ones((1, 1), "bfloat16")), x)


# ---- REC-PAR-3: fallback -------------------------------------------------------------------------
def test_rec_par_3_a_chaotic_recurrence_is_walked_and_wastes_three_passes():
    arrays = arguments(gamma=0.99, z=3.0, weight=4.0)
    h, report = gated_recurrence_parallel(*arrays, chunk=STEPS)
    missed, granted = missed_and_granted(arrays, h)
    assert report.fell_back
    assert report.depth <= 256 + 3 * STEPS
    assert np.all(missed <= granted)


def test_rec_par_3_where_the_norm_remembers_all_the_stabilized_recurrence_is_walked():
    arrays = arguments("stabilized", gamma=0.99, z=0.1, weight=4.0)
    h, report = stabilized_recurrence_parallel(*arrays, chunk=STEPS)
    assert report.fell_back
    assert report.depth <= 256 + 3 * STEPS
    assert jnp.isfinite(h).all()


@every_op
def test_a_row_of_nan_costs_the_others_nothing(op):
    arrays = arguments(op)
    spoiled = [arrays[0].at[1].set(jnp.nan), *arrays[1:]]
    h, report = OPS[op][1](*arrays, chunk=STEPS)
    beside_nan, spoiled_report = OPS[op][1](*spoiled, chunk=STEPS)
    np.testing.assert_array_equal(beside_nan[0], h[0])
    assert jnp.isnan(beside_nan[1]).all()
    assert not spoiled_report.fell_back
    assert spoiled_report.passes == report.passes


# ---- REC-PAR-4: exact mode -----------------------------------------------------------------------
@pytest.mark.parametrize("chunk", (7, 200))
def test_rec_par_4_the_exact_mode_returns_the_bits_of_the_loop(chunk):
    """Each logit has one term, gates are 0 or 1 unless a state is nearly 0, and halving is exact: one rounding a step."""
    rng = np.random.default_rng(0)
    z = jnp.asarray(rng.choice([-2.0, -1.5, 1.1, 1.7], (2, 200, 8)), "float32")
    weight = jnp.asarray(3000 * np.roll(np.eye(8), 1, axis=0), "float32")
    arrays = (z, jnp.full_like(z, 0.5), weight, jnp.full(8, 900.0, "float32"), jnp.ones((2, 8), "float32"))
    h, report = gated_recurrence_parallel(*arrays, chunk=chunk, tolerance=0.0)
    assert report.defect == 0
    assert chunk == 200 or report.passes > 1
    np.testing.assert_array_equal(h, gated_recurrence(*arrays))


def test_rec_par_4_with_a_clip_that_binds():
    """As above: gates are 0 or 1, and there is no norm. Sums grow into the clip and are forgotten there."""
    rng = np.random.default_rng(0)
    z = jnp.asarray(rng.choice([-2.0, -1.5, 1.1, 1.7], (2, 200, 8)), "float32")
    logits = jnp.asarray(rng.choice([-2000.0, 2000.0], (2, 200, 8)), "float32")
    weight = jnp.asarray(1000 * np.roll(np.eye(8), 1, axis=0), "float32")
    nothing, ones = jnp.zeros(8, "float32"), jnp.ones((2, 8), "float32")
    arrays = (z, logits, jnp.full_like(z, 0.5), weight, nothing, nothing, nothing, ones)
    options = {"norm": "none", "clip": 3.0}
    h, report = stabilized_recurrence_parallel(*arrays, **options, chunk=7, tolerance=0.0)
    assert report.defect == 0
    assert report.passes > 1
    assert jnp.abs(h).max() == 3
    np.testing.assert_array_equal(h, stabilized_recurrence(*arrays, **options))


# ---- gradients -----------------------------------------------------------------------------------
def assert_near(found, expected, tolerance):
    for one, other in zip(found, expected, strict=True):
        difference = jnp.abs(one.astype("float64") - other.astype("float64")).max()
        assert difference <= tolerance * jnp.abs(other.astype("float64")).max()


@pytest.mark.parametrize("chunk", (10, 128))
@pytest.mark.parametrize(
    ("op", "options"),
    [("gated", {})] + [("stabilized", {"norm": norm, "clip": 1.5}) for norm in ("rms", "layer", "none")],
)
def test_gradients_are_those_of_the_loop(op, options, chunk):
    loop, parallel = OPS[op]
    arrays = arguments(op, T=128, D=8, gamma=0.5, dtype="float64")
    _, found = with_gradients(parallel, arrays, chunk=chunk, **options)
    _, expected = with_gradients(loop, arrays, **options)
    # Both round each step: n roundings of T steps and D terms, relative to the largest gradient.
    assert_near(found, expected, 128 * 8 * UNIT["float64"])


def test_narrow_results_and_gradients_have_the_dtype_of_the_arguments_and_its_precision():
    arrays = arguments(T=64, D=8, gamma=0.5, dtype="bfloat16")
    as_float32 = [array.astype("float32") for array in arrays]
    gap = float(jnp.finfo("bfloat16").eps)
    (h, _), found = with_gradients(gated_recurrence_parallel, arrays, chunk=16)
    expected_h, expected = with_gradients(gated_recurrence, as_float32)
    assert {array.dtype.name for array in (h, *found)} == {"bfloat16"}
    # The states are those of float32, rounded: half a gap, but for states that are nearly half way.
    assert_near([h], [expected_h], 0.51 * gap)
    # The loss sees the rounded h: its slope is off by half a gap, as is then the gradient that is rounded.
    assert_near(found, expected, 2 * gap)


# ---- transformations -----------------------------------------------------------------------------
def test_jit_and_vmap_of_the_stabilized_recurrence_give_what_plain_calls_give():
    several = [arguments("stabilized", T=70, D=8, gamma=0.5, dtype="float64", seed=seed) for seed in range(2)]
    stacked = [jnp.stack(arrays) for arrays in zip(*several, strict=True)]

    def solve(*arrays):
        return with_gradients(stabilized_recurrence_parallel, arrays, chunk=16)

    (h, report), found = jax.jit(jax.vmap(solve))(*stacked)
    for index, arrays in enumerate(several):
        (expected_h, expected_report), expected = solve(*arrays)
        assert report.passes[index] == expected_report.passes
        # Both round each step and contract: n roundings of T steps and D terms, relative to the largest element.
        assert_near([h[index], *(array[index] for array in found)], [expected_h, *expected], 70 * 8 * UNIT["float64"])


def test_jit_and_vmap_give_the_results_and_the_gradients_of_plain_calls():
    several = [arguments(T=70, D=8, gamma=0.5, seed=seed) for seed in range(2)]
    stacked = [jnp.stack(arrays) for arrays in zip(*several, strict=True)]

    def solve(*arrays):
        return with_gradients(gated_recurrence_parallel, arrays, chunk=16)

    together = jax.jit(jax.vmap(solve))(*stacked)
    for index, arrays in enumerate(several):
        (h, report), found = jax.tree.map(lambda array, index=index: array[index], together)
        (_, expected_report), expected = solve(*arrays)
        missed, granted = missed_and_granted(arrays, h)
        assert not report.fell_back
        assert report.passes == expected_report.passes
        assert np.all(missed <= granted)
        assert_near(found, expected, 70 * 8 * UNIT["float32"])  # as above: roundings of T steps and D terms


def test_rows_that_are_sharded_stay_where_they_are():
    program = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from mmrec.impls.jax_ops import gated_recurrence
from mmrec.impls.jax_ops.parallel import gated_recurrence_parallel

mesh = jax.make_mesh((4,), ("rows",))
normal = np.random.default_rng(0).standard_normal
z, gamma, W, b, h0 = (jnp.asarray(x, "float32") for x in (
    normal((4, 70, 6)), np.full((4, 70, 6), 0.5), normal((6, 6)) / 6**0.5, normal(6), normal((4, 6))))
expected = gated_recurrence(z, gamma, W, b, h0)
rows, everywhere = NamedSharding(mesh, PartitionSpec("rows")), NamedSharding(mesh, PartitionSpec())
sharded = [jax.device_put(x, where) for x, where in zip((z, gamma, W, b, h0), (rows, rows, everywhere, everywhere, rows))]
found, report = jax.jit(lambda *x: gated_recurrence_parallel(*x, chunk=16))(*sharded)
assert found.sharding.is_equivalent_to(rows, 3), found.sharding
assert not report.fell_back
# It contracts: roundings of T steps of D terms at most.
assert np.abs(found - expected).max() <= 70 * 6 * 2.0**-24 * np.abs(expected).max()
"""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}

    subprocess.run([sys.executable, "-c", program], check=True, env=environment)


# ---- arguments -----------------------------------------------------------------------------------
@pytest.mark.parametrize("chunk", (0, -1, 2.5, "many", True))
@every_op
def test_a_chunk_that_is_no_number_of_steps_is_refused(op, chunk):
    with pytest.raises(ValueError, match=r"chunk: .* is not a whole number of at least 1 step"):
        OPS[op][1](*arguments(op), chunk=chunk)


@pytest.mark.parametrize("tolerance", (-1.0, 1.5, float("nan")))
@every_op
def test_a_tolerance_outside_0_to_1_is_refused(op, tolerance):
    with pytest.raises(ValueError, match="tolerance"):
        OPS[op][1](*arguments(op), tolerance=tolerance)


def test_wrong_shapes_and_values_are_refused_by_name():
    z, gamma, W_g, b_g, h0 = arguments()
    with pytest.raises(ValueError, match=r"gamma: shape \(2, 255, 32\) does not match z"):
        gated_recurrence_parallel(z, gamma[:, 1:], W_g, b_g, h0)
    with checked(), pytest.raises(ValueError, match=r"gamma\[0, 0, 0\] = -1"):
        gated_recurrence_parallel(z, gamma * 0 - 1, W_g, b_g, h0)


@pytest.mark.parametrize("option", ({"norm": "batch"}, {"eps": -1.0}, {"clip": 0.0}))
def test_options_of_the_stabilized_recurrence_are_refused_by_name(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        stabilized_recurrence_parallel(*arguments("stabilized"), **option)
