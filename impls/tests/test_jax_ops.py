"""Are the JAX ops usable under jit, vmap and grad, careful with their arguments, and right on hand-made cases?

How close they are to the reference is judged elsewhere; the second formulas here are float64 NumPy loops.
"""

import math
import os
import subprocess
import sys
from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from mmrec.impls import jax_ops
from mmrec.impls.jax_ops import (
    _kernels,
    _scan,
    _step,
    checked,
    decay_gate,
    decay_product,
    decay_product_exact,
    gated_recurrence,
    linear_recurrence,
    log_decay_product,
    stabilized_recurrence,
)

CASES = {  # id -> (op, options)
    "decay_product": (decay_product, {}),
    "decay_product_exact": (decay_product_exact, {}),
    "log_decay_product": (log_decay_product, {}),
    "linear_recurrence": (linear_recurrence, {}),
    "gated_recurrence": (gated_recurrence, {}),
    "stabilized_recurrence-rms": (stabilized_recurrence, {}),
    "stabilized_recurrence-layer": (stabilized_recurrence, {"norm": "layer", "eps": 1e-3}),
    "stabilized_recurrence-none": (stabilized_recurrence, {"norm": "none"}),
    "stabilized_recurrence-clip": (stabilized_recurrence, {"clip": 0.7}),
    "decay_gate-tanh": (decay_gate, {}),
    "decay_gate-erf": (decay_gate, {"gelu": "erf"}),
}
every_case = pytest.mark.parametrize(("op", "options"), CASES.values(), ids=CASES.keys())

# Roundings of float64 in which two ways to compute the same may differ. Measured: 8 on a CPU (2026-11-26, jax 0.10.2).
FEW = 256 * 2.0**-53


@pytest.fixture(autouse=True)
def strict_jax():
    """Let JAX refuse every implicit promotion of dtype or rank; float64 is there for those who ask."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def make_arguments(op, steps=5, rows=2, channels=3, width=4, dtype="float64", seed=0):
    """Return the arguments of an op by name, random values inside its domain."""
    generator = np.random.default_rng(seed)

    def normal(*shape):
        return jnp.asarray(generator.standard_normal(shape)).astype(dtype)

    def unit(*shape, lowest=0.0, highest=1.0):
        return jnp.asarray(generator.uniform(lowest, highest, shape)).astype(dtype)

    time, row = (rows, steps, channels), (rows, channels)
    square, channel = (channels, channels), (channels,)
    if op in (decay_product, decay_product_exact):
        return {"gamma": unit(*time), "initial": normal(*row)}
    if op is log_decay_product:
        return {"log_gamma": unit(*time, lowest=-3.0, highest=-0.1), "initial": normal(*row)}
    if op is linear_recurrence:
        return {"a": unit(*time, lowest=-1.0), "b": normal(*time), "h0": normal(*row)}
    if op is gated_recurrence:
        arrays = {"z": normal(*time), "gamma": unit(*time), "W_g": normal(*square), "b_g": normal(*channel)}
        return {**arrays, "h0": normal(*row)}
    if op is stabilized_recurrence:
        arrays = {"z": normal(*time), "gate_z": normal(*time), "gamma": unit(*time)}
        arrays |= {"W_h": normal(*square), "b_h": normal(*channel)}
        return {**arrays, "norm_weight": normal(*channel), "norm_bias": normal(*channel), "h0": normal(*row)}
    arrays = {"z": normal(*time), "k": normal(*time)}
    for pathway in ("base", "context"):
        arrays |= {f"{pathway}_w1": normal(width, channels), f"{pathway}_b1": normal(width)}
        arrays |= {f"{pathway}_w2": normal(channels, width), f"{pathway}_b2": normal(channels)}
    return arrays


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def normalize(u, weight, bias, norm, eps):
    if norm == "none":
        return u
    if norm == "rms":
        return u / np.sqrt((u**2).mean(-1, keepdims=True) + eps) * weight
    return (u - u.mean(-1, keepdims=True)) / np.sqrt(u.var(-1, keepdims=True) + eps) * weight + bias


def step_by_step(op, arguments, norm="rms", eps=1e-6, clip=100.0, gelu="tanh"):
    """The second formula: one step per loop turn, in float64."""
    x = {name: np.asarray(array, dtype=np.float64) for name, array in arguments.items()}
    if op is decay_gate:

        def pathway(values, name):
            hidden = values @ x[f"{name}_w1"].T + x[f"{name}_b1"]
            if gelu == "tanh":
                cumulative = (1 + np.tanh(math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3))) / 2
            else:
                cumulative = (1 + np.vectorize(math.erf)(hidden / math.sqrt(2))) / 2
            return sigmoid((hidden * cumulative) @ x[f"{name}_w2"].T + x[f"{name}_b2"])

        return (pathway(x["z"], "base") * pathway(x["k"], "context")).clip(1e-6, 1 - 1e-6)
    h = x["initial"] if "initial" in x else x["h0"]
    states = []
    for t in range(next(iter(x.values())).shape[1]):
        if op is decay_product:
            h = h * x["gamma"][:, t].clip(min=math.exp(-50))
        elif op is decay_product_exact:
            h = h * x["gamma"][:, t]
        elif op is log_decay_product:
            h = h + x["log_gamma"][:, t].clip(-50, 0)
        elif op is linear_recurrence:
            h = x["a"][:, t] * h + x["b"][:, t]
        elif op is gated_recurrence:
            h = x["z"][:, t] * sigmoid(h @ x["W_g"].T + x["b_g"]) + x["gamma"][:, t] * h
        else:
            g = sigmoid(x["gate_z"][:, t] + h @ x["W_h"].T + x["b_h"])
            u = (1 - g) * h + g * x["z"][:, t] + x["gamma"][:, t] * h
            h = normalize(u, x["norm_weight"], x["norm_bias"], norm, eps).clip(-clip, clip)
        states.append(h)
    return np.stack(states, 1)


def gradients(op, arguments, options, weights_rounded_to="float64"):
    """Return the gradients of a random weighting of the result, by argument name."""
    result, pull_back = jax.vjp(lambda x: op(**x, **options), arguments)
    weights = jnp.asarray(np.random.default_rng(1).standard_normal(result.shape))
    return pull_back(weights.astype(weights_rounded_to).astype(result.dtype))[0]


def assert_same_bits(left, right):
    assert left.dtype == right.dtype
    assert np.asarray(left).tobytes() == np.asarray(right).tobytes()


def test_every_module_without_an_underscore_is_an_op_of_the_subject():
    assert set(jax_ops.SUBJECT["ops"]) == {op.__name__ for op, _ in CASES.values()}
    assert all(getattr(jax_ops, name) is op for name, op in jax_ops.SUBJECT["ops"].items())


@pytest.mark.parametrize("steps", [1, 33])
@every_case
def test_every_state_is_what_the_formula_gives_step_by_step(op, options, steps):
    arguments = make_arguments(op, steps)

    np.testing.assert_allclose(op(**arguments, **options), step_by_step(op, arguments, **options), rtol=FEW, atol=FEW)


@every_case
def test_gradients_equal_central_differences_in_float64(op, options):
    arguments = make_arguments(op)

    def from_numpy(*arrays):
        return op(*map(jnp.asarray, arrays), **options)  # check_grads steps with NumPy arrays

    check_grads(from_numpy, tuple(arguments.values()), order=1, modes=["rev"], rtol=1e-6, atol=1e-6)


@every_case
def test_jit_gives_the_value_and_the_gradients_of_the_plain_call(op, options):
    arguments = make_arguments(op)

    result = jax.jit(lambda x: op(**x, **options))(arguments)

    np.testing.assert_allclose(result, op(**arguments, **options), rtol=FEW, atol=FEW)
    compiled = jax.jit(lambda x: gradients(op, x, options))(arguments)
    for name, gradient in gradients(op, arguments, options).items():
        np.testing.assert_allclose(compiled[name], gradient, rtol=FEW, atol=FEW, err_msg=name)


@every_case
def test_vmap_is_one_call_per_entry(op, options):
    several = [make_arguments(op, seed=seed) for seed in range(3)]
    stacked = {name: jnp.stack([arguments[name] for arguments in several]) for name in several[0]}

    result = jax.vmap(lambda x: op(**x, **options))(stacked)
    per_entry = jax.vmap(lambda x: gradients(op, x, options))(stacked)

    for index, arguments in enumerate(several):
        np.testing.assert_allclose(result[index], op(**arguments, **options), rtol=FEW, atol=FEW)
        for name, gradient in gradients(op, arguments, options).items():
            np.testing.assert_allclose(per_entry[name][index], gradient, rtol=FEW, atol=FEW, err_msg=name)


@every_case
def test_vmap_over_no_entries_is_empty(op, options):
    arguments = make_arguments(op)
    nothing = {name: jnp.empty((0, *x.shape), x.dtype) for name, x in arguments.items()}

    assert jax.vmap(lambda x: op(**x, **options))(nothing).shape == (0, *op(**arguments, **options).shape)
    for name, gradient in jax.vmap(lambda x: gradients(op, x, options))(nothing).items():
        assert gradient.shape == nothing[name].shape, name


@every_case
def test_float32_works_where_float64_does_not_exist(op, options):
    arguments = make_arguments(op, dtype="float32")
    with jax.enable_x64(False):
        result = op(**arguments, **options)
        found = gradients(op, arguments, options, weights_rounded_to="float32")

    assert_same_bits(result, op(**arguments, **options))
    assert all(gradient.dtype == "float32" for gradient in found.values())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@every_case
def test_narrow_results_and_gradients_are_the_rounded_float32_ones(op, options, dtype):
    narrow = make_arguments(op, dtype=dtype)
    wide = {name: array.astype("float32") for name, array in narrow.items()}

    assert_same_bits(op(**narrow, **options), op(**wide, **options).astype(dtype))
    wide_gradients = gradients(op, wide, options, weights_rounded_to=dtype)
    for name, gradient in gradients(op, narrow, options).items():
        assert_same_bits(gradient, wide_gradients[name].astype(dtype))


@every_case
def test_no_steps_give_an_empty_result_and_gradients_of_zero(op, options):
    arguments = make_arguments(op, steps=0, dtype="float32")

    assert op(**arguments, **options).shape == (2, 0, 3)
    assert op(**arguments, **options).dtype == "float32"
    for name, gradient in gradients(op, arguments, options).items():
        assert gradient.shape == arguments[name].shape
        assert not gradient.any(), name


@every_case
def test_transposed_and_sliced_arguments_give_the_bits_of_plain_ones(op, options):
    arguments = make_arguments(op, dtype="float32")
    strided = {name: jnp.repeat(array, 2, axis=0).T.T[::2] for name, array in arguments.items()}

    assert_same_bits(op(**strided, **options), op(**arguments, **options))


@every_case
def test_calls_repeat_to_the_bit(op, options):
    arguments = make_arguments(op, steps=9, dtype="float32")

    assert_same_bits(op(**arguments, **options), op(**arguments, **options))
    again = gradients(op, arguments, options)
    for name, gradient in gradients(op, arguments, options).items():
        assert_same_bits(gradient, again[name])


@pytest.mark.parametrize("op", [gated_recurrence, stabilized_recurrence, decay_gate])
def test_every_matrix_product_asks_for_full_precision(op):
    arguments = make_arguments(op, dtype="float32")

    program = str(jax.make_jaxpr(lambda x: gradients(op, x, {}))(arguments))

    products = program.count("dot_general[")
    assert products > 1
    assert program.count("precision=(Precision.HIGHEST, Precision.HIGHEST)") == products


@pytest.mark.parametrize("op", [decay_product, decay_product_exact])
def test_decays_of_one_keep_every_bit_of_the_initial_value(op):
    initial = jnp.array([[0.1, -0.0, 3e38, -7.0]], dtype="float32")

    result = op(jnp.ones((1, 77, 4), "float32"), initial)

    assert_same_bits(result, jnp.broadcast_to(initial[:, None], (1, 77, 4)))


def test_powers_of_two_multiply_exactly():
    exponents = np.arange(60) % 3

    result = decay_product(
        jnp.asarray(2.0**-exponents, "float32").reshape(1, 60, 1), jnp.full((1, 1), 1.7, dtype="float32")
    )

    expected = np.float32(1.7) * (2.0 ** -exponents.cumsum()).astype(np.float32)
    assert_same_bits(result, expected.reshape(1, 60, 1))


@pytest.mark.parametrize("op", [decay_product, decay_product_exact])
def test_products_err_by_at_most_one_rounding_per_factor(op):
    gamma = jnp.asarray(1 - 0.1 * np.random.default_rng(3).random((1, 300, 1)), "float32")

    result = op(gamma, jnp.ones((1, 1), "float32"))

    exact = Fraction(1)
    for t, (factor, value) in enumerate(zip(gamma.flatten().tolist(), result.flatten().tolist(), strict=True)):
        exact *= Fraction(factor)
        assert abs(Fraction(value) / exact - 1) <= Fraction(t + 2, 2**24)


def test_a_recurrence_of_small_integers_is_exact():
    generator = np.random.default_rng(4)
    a = generator.integers(-1, 2, (3, 257, 5))
    b = generator.integers(-99, 100, (3, 257, 5))
    h, states = np.full((3, 5), 7), []
    for t in range(257):
        h = a[:, t] * h + b[:, t]
        states.append(h)

    result = linear_recurrence(jnp.asarray(a, "float32"), jnp.asarray(b, "float32"), jnp.full((3, 5), 7, "float32"))

    np.testing.assert_array_equal(result, np.stack(states, 1))


@pytest.mark.parametrize("bad", [-0.5, math.nan])
@pytest.mark.parametrize("op", [decay_product, decay_product_exact])
def test_a_decay_below_zero_or_nan_gives_nan_from_its_step_on_and_nowhere_else(op, bad):
    gamma = jnp.full((2, 9, 3), 0.5).at[1, 4, 2].set(bad)

    result = op(gamma, jnp.ones((2, 3)))

    expected = np.zeros((2, 9, 3), dtype=bool)
    expected[1, 4:, 2] = True
    np.testing.assert_array_equal(np.isnan(result), expected)


@pytest.mark.parametrize("argument", ["a", "b"])
def test_nan_in_a_recurrence_stays_in_its_row_and_channel_and_its_future(argument):
    arguments = {"a": jnp.zeros((2, 9, 3)).at[:, :5].set(1.0), "b": jnp.ones((2, 9, 3)), "h0": jnp.ones((2, 3))}
    arguments[argument] = arguments[argument].at[1, 4, 2].set(math.nan)

    result = linear_recurrence(**arguments)

    expected = np.zeros((2, 9, 3), dtype=bool)
    expected[1, 4:, 2] = True
    np.testing.assert_array_equal(np.isnan(result), expected)


@pytest.mark.parametrize("op", [gated_recurrence, stabilized_recurrence, decay_gate])
def test_nan_in_one_row_reaches_no_other_row_and_no_earlier_step(op):
    arguments = make_arguments(op, steps=6, dtype="float32")
    arguments["z"] = arguments["z"].at[1, 3, 0].set(math.nan)

    result = np.asarray(op(**arguments))

    assert not np.isnan(result[0]).any()
    assert not np.isnan(result[1, :3]).any()
    assert np.isnan(result[1, 3, 0])


def test_log_of_zero_counts_minus_fifty_and_nan_stays_nan():
    log_gamma = jnp.array([-math.inf, -1.0, 2.0, math.nan, -1.0]).reshape(1, 5, 1)

    result = log_decay_product(log_gamma, jnp.zeros((1, 1)))

    np.testing.assert_array_equal(result.flatten(), [-50, -51, -51, math.nan, math.nan])


def gradient_of_last(op, sequence, initial):
    """Return the gradient of the result's last step with respect to a sequence of one row and one channel."""
    sequence = jnp.asarray(sequence, "float32").reshape(1, -1, 1)
    return jax.grad(lambda x: op(x, jnp.full((1, 1), initial, "float32"))[:, -1].sum())(sequence).flatten().tolist()


def test_the_gradient_of_a_clamped_logarithm_is_zero_outside_and_one_at_the_ends():
    found = gradient_of_last(log_decay_product, [-math.inf, -51.0, -50.0, -1.0, 0.0, 0.5], 0.0)

    assert found == [0, 0, 1, 1, 1, 0]


def test_the_gradient_at_a_zero_decay_is_the_product_of_the_others():
    assert gradient_of_last(decay_product_exact, [0.5, 0.0, 0.25, 0.5], 3.0) == [0, 3 * 0.5 * 0.25 * 0.5, 0, 0]


def test_the_gradient_is_zero_where_the_floor_binds_and_only_there():
    floor = float(np.float32(math.exp(-50)))

    assert gradient_of_last(decay_product, [0.5, floor / 2, 0.25], 1.0) == [floor * 0.25, 0, floor * 0.5]
    assert gradient_of_last(decay_product, [floor], 1.0) == [1]


def test_the_gradient_of_the_clip_is_one_at_its_ends_and_zero_outside():
    z = jnp.array([[[2.0, 2.5, -2.0, 1.0]]])
    zero, vector = jnp.zeros((1, 1, 4)), jnp.zeros(4)
    open_gate = jnp.full((1, 1, 4), 200.0)  # the sigmoid is exactly 1

    def total(z):
        rest = (open_gate, zero, jnp.zeros((4, 4)), vector, vector, vector, jnp.zeros((1, 4)))
        return stabilized_recurrence(z, *rest, norm="none", clip=2.0).sum()

    assert jax.grad(total)(z).flatten().tolist() == [1, 0, 1, 1]


def test_the_gradient_of_a_clipped_decay_gate_is_zero():
    arguments = make_arguments(decay_gate)
    arguments["base_b2"] = jnp.array([-30.0, 0.0, 0.0])

    found = gradients(decay_gate, arguments, {})["base_b2"]

    assert (decay_gate(**arguments)[..., 0] == 1e-6).all()
    assert found[0] == 0
    assert (found[1:] != 0).all()


FAULTS = {  # id -> (op, argument, what is given instead, error, message)
    "rank": (
        decay_product,
        "gamma",
        np.ones((4, 3), "float32"),
        ValueError,
        "gamma: shape (4, 3) has 2 axes, expected 3: [B, T, D]",
    ),
    "length": (
        linear_recurrence,
        "b",
        np.ones((2, 6, 3), "float32"),
        ValueError,
        "b: shape (2, 6, 3) does not match a: expected (2, 5, 3)",
    ),
    "square": (
        gated_recurrence,
        "W_g",
        np.ones((3, 4), "float32"),
        ValueError,
        "W_g: shape (3, 4) does not match z: expected (3, 3)",
    ),
    "width": (
        decay_gate,
        "base_w2",
        np.ones((3, 7), "float32"),
        ValueError,
        "base_w2: shape (3, 7) does not match base_w1: expected (3, 4)",
    ),
    "empty": (
        log_decay_product,
        "log_gamma",
        np.ones((0, 5, 3), "float32"),
        ValueError,
        "log_gamma: shape (0, 5, 3) has no B, expected [B, T, D] with B >= 1",
    ),
    "integers": (
        linear_recurrence,
        "a",
        np.ones((2, 5, 3), "int32"),
        TypeError,
        "a: dtype int32 is not one of float64, float32, bfloat16, float16",
    ),
    "mixed": (
        stabilized_recurrence,
        "h0",
        np.ones((2, 3), "float64"),
        TypeError,
        "h0: dtype float64 does not match z: expected float32",
    ),
    "list": (decay_product, "initial", [[1.0]], TypeError, "initial: expected a jax.Array, got list"),
    "norm": (
        stabilized_recurrence,
        "norm",
        "batch",
        ValueError,
        "norm: 'batch' is not one of 'rms', 'layer', 'none'",
    ),
    "gelu": (decay_gate, "gelu", "fast", ValueError, "gelu: 'fast' is not one of 'tanh', 'erf'"),
    "eps": (stabilized_recurrence, "eps", -1.0, ValueError, "eps: -1.0 is not at least 0"),
    "clip": (stabilized_recurrence, "clip", 0.0, ValueError, "clip: 0.0 is not greater than 0"),
    "number": (stabilized_recurrence, "clip", "wide", TypeError, "clip: expected a number, got str"),
}


@pytest.mark.parametrize("traced", [False, True], ids=["concrete", "traced"])
@pytest.mark.parametrize(("op", "argument", "given", "error", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_a_faulty_argument_is_named_with_what_was_given_and_what_is_accepted(
    op, argument, given, error, message, traced
):
    arguments = make_arguments(op, dtype="float32")
    given = jnp.asarray(given) if isinstance(given, np.ndarray) else given
    fixed = {} if isinstance(given, jax.Array) else {argument: given}
    arrays = {**arguments, argument: given} if not fixed else {n: x for n, x in arguments.items() if n != argument}

    def call(arrays):
        return op(**arrays, **fixed)

    with pytest.raises(error) as raised:
        (jax.jit(call) if traced else call)(arrays)

    assert str(raised.value) == message


VALUES = {  # id -> (op, argument, value, message)
    "negative": (decay_product, "gamma", -0.5, "gamma[1, 3, 2] = -0.5 is outside [0, 1]"),
    "above one": (gated_recurrence, "gamma", 1.5, "gamma[1, 3, 2] = 1.5 is outside [0, 1]"),
    "not a decay": (decay_product_exact, "gamma", math.nan, "gamma[1, 3, 2] = nan is outside [0, 1]"),
    "growth": (log_decay_product, "log_gamma", 0.25, "log_gamma[1, 3, 2] = 0.25 is outside [-inf, 0]"),
    "unstable": (linear_recurrence, "a", -2.0, "a[1, 3, 2] = -2 is outside [-1, 1]"),
    "no number": (stabilized_recurrence, "gate_z", math.nan, "gate_z[1, 3, 2] = nan is not a number"),
    "no input": (decay_gate, "k", math.nan, "k[1, 3, 2] = nan is not a number"),
}


@pytest.mark.parametrize("differentiated", [False, True], ids=["plain", "grad"])
@pytest.mark.parametrize(("op", "argument", "value", "message"), VALUES.values(), ids=VALUES.keys())
def test_checked_mode_names_the_first_value_outside_the_domain(op, argument, value, message, differentiated):
    arguments = make_arguments(op, dtype="float32")
    arguments[argument] = arguments[argument].at[1, 3, 2].set(value).at[1, 4, 0].set(value)

    def call(x):
        return op(**x).sum()

    with checked(), pytest.raises(ValueError) as raised:
        (jax.grad(call) if differentiated else call)(arguments)

    assert str(raised.value) == message
    op(**arguments)  # outside checked mode nobody looks


@every_case
def test_checked_mode_changes_nothing_for_values_inside_the_domain(op, options):
    arguments = make_arguments(op)

    with checked():
        result = op(**arguments, **options)

    assert_same_bits(result, op(**arguments, **options))


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap])
def test_checked_mode_refuses_a_traced_call_because_it_has_no_values(transform):
    gamma, initial = jnp.ones((4, 2, 5, 3)), jnp.ones((4, 2, 3))
    op = transform(decay_product) if transform is jax.vmap else transform(jax.vmap(decay_product))

    with (
        checked(),
        pytest.raises(ValueError, match="gamma: checked mode needs concrete values, but this call is being"),
    ):
        op(gamma, initial)


SCANS = (decay_product, decay_product_exact, log_decay_product, linear_recurrence)
every_scan = pytest.mark.parametrize("op", SCANS, ids=lambda op: op.__name__)


def forget_what_was_traced():
    for function in (_scan._forward, _scan._backward):
        function.cache_clear()
    jax.clear_caches()


@pytest.fixture
def use_kernels(monkeypatch):
    """A function after whose call the scans run the GPU's kernels, interpreted: segments of two steps, blocks of one."""

    def use():
        monkeypatch.setattr(_scan, "_for_the_device", lambda walk, kernel: kernel)
        for name in ("forward", "backward"):
            monkeypatch.setattr(_kernels, name, partial(getattr(_kernels, name), interpret=True))
        monkeypatch.setattr(_kernels, "BLOCK", 1)
        monkeypatch.setattr(_step, "SHORT_ROWS", 2)
        forget_what_was_traced()

    yield use
    monkeypatch.undo()
    forget_what_was_traced()


def with_zeros_and_ones(arguments):
    decay = next(iter(arguments))
    return {**arguments, decay: arguments[decay].at[:, 3::7].set(0.0).at[:, 4::9].set(1.0)}


@pytest.mark.parametrize(("steps", "channels"), [(8, 33), (41, 3)])
@every_scan
def test_kernels_give_what_the_loop_gives(op, steps, channels, use_kernels):
    arguments = make_arguments(op, steps, channels=channels)
    arguments = arguments if op is log_decay_product else with_zeros_and_ones(arguments)
    expected, expected_gradients = op(**arguments), gradients(op, arguments, {})

    use_kernels()

    # Each way rounds a state at most twice a step, and a gradient at most four times, by half a unit of the largest.
    rounding = 4 * steps * np.finfo("float64").eps
    for got, wanted in [(op(**arguments), expected)] + [
        (gradient, expected_gradients[name]) for name, gradient in gradients(op, arguments, {}).items()
    ]:
        assert np.abs(got - wanted).max() <= rounding * np.abs(wanted).max()


@every_scan
def test_kernels_work_under_jit_and_vmap_in_a_narrow_dtype(op, use_kernels):
    several = [make_arguments(op, 20, channels=70, dtype="bfloat16", seed=seed) for seed in range(2)]
    stacked = {name: jnp.stack([arguments[name] for arguments in several]) for name in several[0]}

    use_kernels()
    together = jax.jit(jax.vmap(lambda x: (op(**x), gradients(op, x, {}))))(stacked)

    for index, arguments in enumerate(several):
        assert_same_bits(together[0][index], op(**arguments))
        for name, gradient in gradients(op, arguments, {}).items():
            assert_same_bits(together[1][name][index], gradient)


@pytest.mark.parametrize("op", [decay_product, decay_product_exact])
def test_decays_of_one_keep_every_bit_in_the_kernels(op, use_kernels):
    initial = jnp.array([[0.1, -0.0, 3e38, -7.0]], dtype="float32")

    use_kernels()

    assert_same_bits(op(jnp.ones((1, 41, 4), "float32"), initial), jnp.broadcast_to(initial[:, None], (1, 41, 4)))


@pytest.mark.parametrize("bad", [-0.5, math.nan])
def test_a_nan_in_the_kernels_stays_in_its_row_and_channel_and_its_future(bad, use_kernels):
    gamma = jnp.full((2, 41, 3), 0.5).at[1, 10, 2].set(bad)

    use_kernels()
    result = decay_product(gamma, jnp.ones((2, 3)))

    expected = np.zeros((2, 41, 3), dtype=bool)
    expected[1, 10:, 2] = True
    np.testing.assert_array_equal(np.isnan(result), expected)


def test_sharded_rows_and_channels_give_the_bits_of_one_device():
    program = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from mmrec.impls.jax_ops import linear_recurrence

mesh = jax.make_mesh((2, 2), ("rows", "channels"))
rng = np.random.default_rng(0)
a, b = (jnp.asarray(rng.random((4, 50, 6)), "float32") for _ in range(2))
h0 = jnp.asarray(rng.random((4, 6)), "float32")
both = jax.jit(lambda *x: (linear_recurrence(*x), jax.grad(lambda *y: (linear_recurrence(*y) ** 2).sum(), (0, 1, 2))(*x)))
expected = both(a, b, h0)
time, row = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("rows", None, "channels"), ("rows", "channels")))
result = both(jax.device_put(a, time), jax.device_put(b, time), jax.device_put(h0, row))
assert result[0].sharding.is_equivalent_to(time, 3), result[0].sharding
for one, other in zip(jax.tree.leaves(result), jax.tree.leaves(expected), strict=True):
    np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
"""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}

    subprocess.run([sys.executable, "-c", program], check=True, env=environment)


def test_the_backend_imports_nothing_else_of_the_project_and_no_other_framework():
    program = (
        "import sys, mmrec.impls.jax_ops\n"
        "allowed = ('mmrec', 'mmrec.impls', 'mmrec.impls.jax_ops')\n"
        "ours = [m for m in sys.modules if m.startswith('mmrec') and m not in allowed]\n"
        "assert all(m.startswith('mmrec.impls.jax_ops.') for m in ours), ours\n"
        "assert not {'torch', 'triton', 'mpmath', 'flint', 'hypothesis'} & set(sys.modules)\n"
    )

    subprocess.run([sys.executable, "-c", program], check=True)
