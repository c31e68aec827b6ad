"""Does a running-error number enclose what float32 makes of the same formula, in any order?"""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf

from mmrec.numerics.error_model import ErrorModel, model_for
from mmrec.numerics.formats import FLOAT16, FLOAT32, FLOAT64
from mmrec.numerics.running_error import RunningError
from mmrec.reference import numbers

modest = settings(max_examples=50, derandomize=True, deadline=None)
MODEL = model_for(FLOAT32)
float32 = np.float32


def exactly(array):
    """The same numbers with fifty digits."""
    result = np.empty(np.shape(array), object)
    for index, x in np.ndenumerate(np.asarray(array, np.float64)):
        result[index] = mpmath.mpf(float(x))
    return result


def encloses(number, computed, exact):
    """The value is the exact one to float64, and the computed one is no farther off than the error says."""
    exact = np.vectorize(float)(exact)
    np.testing.assert_allclose(number.value, exact, rtol=1e-11, atol=1e-13 * (1 + np.abs(exact).max()))
    outside = np.abs(np.asarray(computed, np.float64) - exact) > number.error + 1e-14 * np.abs(exact)
    assert not outside.any(), (computed, exact, number.error)


def flushed(x):
    return np.where(np.abs(x) < float32(2.0**-126), float32(0), x)


def fused(a, b, c):
    """a b + c rounded once: the product of two float32 is exact in float64."""
    return (a.astype(np.float64) * b + c).astype(np.float32)


# ---- one operation at a time, in float32 ---------------------------------------------------
def sum_in_order(x, rng):
    """Along the last axis: pairs of partial sums meet in random order."""
    parts = [x[..., i] for i in rng.permutation(x.shape[-1])]
    while len(parts) > 1:
        i, j = sorted(rng.choice(len(parts), 2, replace=False))
        second = parts.pop(j)
        parts[i] = parts[i] + second
    return parts[0]


def product_of_matrices(x, y, rng):
    """Rows of x with columns of y, summed in random order, every other time with fused multiply-add."""
    if rng.random() < 0.5:
        return sum_in_order(x[:, None, :] * y.T[None], rng)
    total = np.zeros((x.shape[0], y.shape[1]), float32)
    for j in rng.permutation(x.shape[1]):
        total = fused(np.broadcast_to(x[:, j, None], total.shape), np.broadcast_to(y[j], total.shape), total)
    return total


def sigmoid32(x):
    with np.errstate(over="ignore"):
        return float32(1) / (float32(1) + np.exp(-x))


BINARY = {
    "add": (lambda a, b: a + b, lambda a, b, rng: a + b),
    "subtract": (lambda a, b: a - b, lambda a, b, rng: a - b),
    "multiply": (lambda a, b: a * b, lambda a, b, rng: a * b),
    "divide": (lambda a, b: a / (b * b + 1), lambda a, b, rng: a / (b * b + float32(1))),
    "multiply and add": (lambda a, b: a * b + b, lambda a, b, rng: fused(a, b, b) if rng.random() < 0.5 else a * b + b),
    "matrix product": (lambda a, b: a @ b.T, lambda a, b, rng: product_of_matrices(a, b.T, rng)),
    "sum": (lambda a, b: (a * b).sum(axis=1, keepdims=True) + b * 0,
            lambda a, b, rng: np.broadcast_to(sum_in_order(a * b, rng)[:, None], b.shape)),
    "mean": (lambda a, b: numbers.mean(a) + b,
             lambda a, b, rng: sum_in_order(a, rng)[:, None] / float32(a.shape[1]) + b),
}  # fmt: skip
UNARY = {
    "exp": (lambda x: numbers.exp(x), np.exp),
    "log": (lambda x: numbers.log(x * x + 1), lambda x: np.log(x * x + float32(1))),
    "sigmoid": (lambda x: numbers.sigmoid(x), sigmoid32),
    "tanh": (lambda x: numbers.tanh(x), np.tanh),
    "erf": (lambda x: numbers.erf(x), erf),
    "sqrt": (lambda x: numbers.sqrt(x * x), lambda x: np.sqrt(x * x)),
    "rsqrt": (lambda x: numbers.rsqrt(x * x + 1), lambda x: float32(1) / np.sqrt(x * x + float32(1))),
}


def draw(data, rows=3, columns=3, reach=4.0):
    seed, scale = data.draw(st.integers(0, 2**20)), data.draw(st.sampled_from([1e-3, 1.0, reach]))
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, columns)) * scale
    x = np.where(rng.random(x.shape) < 0.2, rng.choice([0.0, 1.0, -1.0, 2.0, 0.5], x.shape), x)
    return x.astype(float32), rng


@pytest.mark.parametrize("name", BINARY)
@modest
@given(data=st.data())
def test_two_numbers_and_an_operation(name, data):
    formula, in_float32 = BINARY[name]
    a, rng = draw(data)
    b, _ = draw(data)
    with mpmath.workdps(50):
        exact = formula(exactly(a), exactly(b))
    encloses(formula(RunningError(a, 0.0, MODEL), RunningError(b, 0.0, MODEL)), in_float32(a, b, rng), exact)


@pytest.mark.parametrize("name", UNARY)
@modest
@given(data=st.data())
def test_elementary_functions_of_any_size(name, data):
    formula, in_float32 = UNARY[name]
    x, _ = draw(data, reach=12.0)
    with mpmath.workdps(50):
        exact = formula(exactly(x))
    encloses(formula(RunningError(x, 0.0, MODEL)), in_float32(x), exact)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(data=st.data())
def test_chains_of_operations(data):
    """Operands carry the errors of what was done before; large and uncertain numbers are not followed further."""
    a, rng = draw(data)
    b, _ = draw(data)
    operands = {"running": [RunningError(x, 0.0, MODEL) for x in (a, b)], "float32": [a, b]}
    with mpmath.workdps(50):
        operands["exact"] = [exactly(a), exactly(b)]
        for name in data.draw(st.lists(st.sampled_from([*BINARY, *UNARY]), min_size=2, max_size=6)):
            if np.abs(operands["running"][0].value).max() > 80 or operands["running"][0].error.max() > 1:
                return
            for system, (x, y) in operands.items():
                if name in BINARY:
                    formula, in_float32 = BINARY[name]
                    result = in_float32(x, y, rng) if system == "float32" else formula(x, y)
                else:
                    formula, in_float32 = UNARY[name]
                    result = in_float32(x) if system == "float32" else formula(x)
                operands[system] = [result, y]
            encloses(operands["running"][0], operands["float32"][0], operands["exact"][0])


@modest
@given(data=st.data())
def test_operands_anywhere_within_their_errors(data):
    """Not only roundings: any number within the error of each operand leads to a result within the result's error."""
    a, rng = draw(data)
    b, _ = draw(data)
    errors = [np.abs(x) * data.draw(st.sampled_from([0.0, 1e-4, 0.1, 0.5])) for x in (a, b)]
    moved = [(x + e * rng.uniform(-1, 1, x.shape)).astype(np.float64) for x, e in zip((a, b), errors, strict=True)]
    running = [RunningError(x, e, MODEL) for x, e in zip((a, b), errors, strict=True)]
    for formula, _ in BINARY.values():
        number = formula(*running)
        assert np.all(np.abs(formula(*moved) - number.value) <= number.error * (1 + 1e-9))
    for formula, _ in UNARY.values():
        number = formula(running[0])
        assert np.all(np.abs(formula(moved[0]) - number.value) <= number.error * (1 + 1e-9))


# ---- where nothing is rounded, and where a result underflows ------------------------------------
@pytest.mark.parametrize("factor", [0.0, 1.0, -1.0, 0.5, 4.0])
def test_factors_of_zero_and_powers_of_two_round_nothing(factor):
    x = RunningError([0.1, 3.0], 0.0, MODEL)
    assert (x * RunningError(factor, 0.0, MODEL)).error.tolist() == [0, 0]
    if factor:
        assert (x / RunningError(factor, 0.0, MODEL)).error.tolist() == [0, 0]
    assert (x + 0.0).error.tolist() == [0, 0]
    assert (-x).error.tolist() == [0, 0]


def test_a_constant_is_rounded_once_unless_it_is_representable():
    one = RunningError(1.0, 0.0, MODEL)
    assert one.constant("100.0").error == 0 and one.constant("-50").error == 0
    assert one.constant("0.1").error >= abs(float(float32(0.1)) - 0.1) > 0


@pytest.mark.parametrize("flush", [False, True])
def test_products_that_underflow_stay_enclosed(flush):
    """NUM-1: subnormal results are flushed only where the model says so."""
    model = ErrorModel(flush_to_zero=flush)
    rng = np.random.default_rng(0)
    a, b = (10.0 ** rng.uniform(-23, -18, 400)).astype(float32), (10.0 ** rng.uniform(-23, -18, 400)).astype(float32)
    number = RunningError(a, 0.0, model) * RunningError(b, 0.0, model)
    computed = a * b
    exact = a.astype(np.float64) * b.astype(np.float64)
    assert np.all(np.abs(computed - exact) <= number.error)
    if flush:
        assert np.all(np.abs(flushed(computed) - exact) <= number.error)
    else:
        assert np.any(np.abs(flushed(computed) - exact) > number.error)  # what is not allowed is not enclosed


def test_the_error_is_not_vacuous():
    """A few units of roundoff for a few operations: twenty times as much is outside."""
    x = RunningError(np.linspace(0.1, 0.9, 9), 0.0, MODEL)
    few = ((x * x + x, 3), (numbers.sigmoid(x), 12), (numbers.exp(x), 7), (numbers.tanh(x), 14), (1 / x, 5))
    for number, units in few:
        assert np.all(number.error <= units * MODEL.u * np.abs(number.value))


# ---- choices ----------------------------------------------------------------------------
@modest
@given(st.floats(-2, 2), st.floats(0, 1), st.floats(-2, 2), st.floats(0, 1), st.floats(-1, 1), st.floats(-1, 1))
def test_maximum_encloses_whichever_is_chosen(x, e, y, f, s, t):
    number = RunningError(x, e, MODEL).maximum(RunningError(y, f, MODEL))
    assert abs(max(x + s * e, y + t * f) - number.value) <= number.error * (1 + 1e-12) + 1e-15


@modest
@given(st.floats(-2, 2), st.floats(0, 1), st.floats(-1, 1))
def test_between_is_undecided_where_the_error_reaches_over_a_limit(x, e, s):
    told = RunningError(x, e, MODEL).between(-1, 1)
    moved = x + s * e
    assert abs(float(-1 <= moved <= 1) - told.value) <= told.error
    if min(abs(x - 1), abs(x + 1)) > e:
        assert told.error == 0


def test_a_limit_itself_is_inside_when_it_is_known_exactly():
    told = RunningError([-1.0, 1.0, 1.0 + 1e-12], 0.0, MODEL).between(-1, 1)
    assert told.value.tolist() == [1, 1, 0] and told.error.tolist() == [0, 0, 0]


def test_an_undecided_choice_reaches_both():
    x, y = RunningError([5.0, 5.0, 5.0], [0.1, 0.1, 0.1], MODEL), RunningError([0.0, 0.0, 0.0], [0.2, 0.2, 0.2], MODEL)
    chosen = x.where(RunningError([1.0, 0.0, 1.0], [0.0, 0.0, 1.0], MODEL), y)
    assert chosen.value.tolist() == [5, 0, 5]
    np.testing.assert_allclose(chosen.error, [0.1, 0.2, 5.2])
    assert x.where(np.array([True, False, True]), y).error.tolist() == [0.1, 0.2, 0.1]


def test_division_by_what_may_be_zero_has_no_bound():
    maybe_zero = RunningError(0.5, 0.5, MODEL)
    for number in (1 / maybe_zero, maybe_zero.log(), maybe_zero.rsqrt()):
        assert number.error > 1e29
        assert (number * 0.0).error == 0  # 0 times anything is 0


# ---- model --------------------------------------------------------------------------------
def test_the_model_follows_the_arithmetic():
    """NUM-1"""
    assert model_for(FLOAT16).u == model_for(FLOAT32).u == 2.0**-24 and model_for(FLOAT64).u == 2.0**-53
    assert ErrorModel().eta == 2.0**-126 and ErrorModel(flush_to_zero=False).eta == 2.0**-150
    assert ErrorModel().gamma(0) == ErrorModel().gamma(-1) == 0
    assert ErrorModel().gamma(10) == pytest.approx(10 * 2.0**-24, rel=1e-6) and ErrorModel().gamma(10) > 10 * 2.0**-24
    assert ErrorModel().describe()["arithmetic"] == "float32" and "sources" in ErrorModel().describe()


def test_shapes_follow_numpy():
    x = RunningError(np.arange(6.0).reshape(2, 3), 0.5, MODEL)
    assert x.shape == (2, 3) and x.T.shape == (3, 2) and x.reshape(-1).shape == (6,) and x[1].shape == (3,)
    assert x.stack([x, x], axis=1).shape == (2, 2, 3)
    assert (np.eye(2) @ x).shape == (2, 3) and (2.0 * x).value[1, 2] == 10 and (1 - x).value[0, 1] == 0
