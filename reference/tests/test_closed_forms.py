"""Second formulas for the same values: closed forms, sums written out, and numbers worked by hand."""

import itertools

import numpy as np
import pytest
from scipy.special import erf

from mmrec.reference.decay_gate import decay_gate, gelu_of, gelu_slope
from mmrec.reference.decay_product import decay_product
from mmrec.reference.decay_product_exact import decay_product_exact
from mmrec.reference.gated_recurrence import gated_recurrence
from mmrec.reference.linear_recurrence import linear_recurrence, linear_recurrence_adjoint
from mmrec.reference.log_decay_product import log_decay_product
from mmrec.reference.normalization import normalize
from mmrec.reference.stabilized_recurrence import stabilized_recurrence

FLOOR = 1.9287498479639178e-22  # e^-50


def random(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def decays(seed, *shape):
    return np.random.default_rng(seed).uniform(0.1, 0.99, shape)


def column(*numbers):
    return np.array(numbers, float).reshape(1, -1, 1)


ONE = np.ones((1, 1))


# ---- decay products --------------------------------------------------------------------
def test_products_by_hand():
    assert decay_product(column(0.5, 0.5, 0.125), 8 * ONE).ravel().tolist() == [4, 2, 0.25]
    assert decay_product_exact(column(0.5, 0.0, 1.0), 8 * ONE).ravel().tolist() == [4, 0, 0]
    floored = decay_product(column(0.0, 1.0, 1e-30), ONE).ravel()
    np.testing.assert_allclose(floored, [FLOOR, FLOOR, FLOOR**2], rtol=1e-15)


def test_products_are_cumulative_products():
    gamma, initial = decays(1, 2, 9, 3), random(2, 2, 3)
    expected = initial[:, None] * np.cumprod(gamma, axis=1)
    np.testing.assert_allclose(decay_product(gamma, initial), expected, rtol=1e-14)
    np.testing.assert_allclose(decay_product_exact(gamma, initial), expected, rtol=1e-14)


def test_a_floor_on_each_step_is_not_a_floor_on_the_product():
    result = decay_product(np.full((1, 3, 1), 1e-20), ONE).ravel()
    np.testing.assert_allclose(result, [1e-20, 1e-40, 1e-60], rtol=1e-14)


def test_log_products_are_logarithms_of_products():
    gamma = decays(3, 2, 9, 3)
    initial = np.abs(random(4, 2, 3))
    logs = log_decay_product(np.log(gamma), np.log(initial))
    np.testing.assert_allclose(np.exp(logs), decay_product(gamma, initial), rtol=1e-13)


def test_log_clamps_each_step_alone():
    logs = log_decay_product(column(-49, -49, -60, 0.0, -np.inf), 2 * ONE)
    assert logs.ravel().tolist() == [-47, -96, -146, -146, -196]


# ---- linear recurrence -----------------------------------------------------------------
def test_a_linear_recurrence_by_hand():
    h = linear_recurrence(column(0.5, -0.25, 1.0), column(1.0, 3.0, -0.5), 2 * ONE)
    assert h.ravel().tolist() == [2.0, 2.5, 2.0]


def test_a_linear_recurrence_is_the_sum_of_its_decayed_inputs():
    a, b, h0 = random(5, 2, 7, 3).clip(-1, 1), random(6, 2, 7, 3), random(7, 2, 3)
    h = linear_recurrence(a, b, h0)
    for t in range(7):
        expected = h0 * a[:, : t + 1].prod(axis=1)
        expected = expected + sum(b[:, s] * a[:, s + 1 : t + 1].prod(axis=1) for s in range(t + 1))
        np.testing.assert_allclose(h[:, t], expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("a", [0.9, -0.5, 0.0])
def test_a_constant_decay_gives_a_geometric_sum(a):
    steps = np.arange(1, 31)
    h = linear_recurrence(np.full((1, 30, 1), a), np.full((1, 30, 1), 3.0), 5 * ONE).ravel()
    np.testing.assert_allclose(h, a**steps * 5 + 3 * (1 - a**steps) / (1 - a), rtol=1e-13)


def test_the_linear_adjoint_is_the_transpose_of_the_map():
    """For fixed a the result is linear in (b, h0): its matrix, column by column, transposed, is the adjoint."""
    a, T = random(8, 1, 5, 1).clip(-1, 1), 5
    columns = [linear_recurrence(a, np.eye(T)[s].reshape(1, T, 1), 0 * ONE).ravel() for s in range(T)]
    columns.append(linear_recurrence(a, np.zeros((1, T, 1)), ONE).ravel())
    g = random(9, 1, T, 1)
    _, grad_b, grad_h0 = linear_recurrence_adjoint(a, random(10, 1, T, 1), ONE, g)
    np.testing.assert_allclose(np.append(grad_b, grad_h0), np.array(columns) @ g.ravel(), rtol=1e-13)


# ---- gated recurrences --------------------------------------------------------------------
def test_a_gated_recurrence_by_hand():
    """Gate logits 0 and 0, then 1.0 - 2.0 + 1 = 0 and 2 - 1 - 1 = 0 again: gates of one half."""
    z = np.array([[[1.0, 1.0], [4.0, 8.0]]])
    gamma = np.array([[[0.5, 0.5], [0.25, 0.0]]])
    h = gated_recurrence(z, gamma, np.array([[1.0, -2.0], [2.0, -1.0]]), np.array([1.0, -1.0]), np.ones((1, 2)))
    assert h.tolist() == [[[1.0, 1.0], [2.25, 4.0]]]


def test_an_unweighted_gate_leaves_a_linear_recurrence():
    z, gamma, h0 = random(11, 2, 6, 3), decays(12, 2, 6, 3), random(13, 2, 3)
    h = gated_recurrence(z, gamma, np.zeros((3, 3)), np.full(3, np.log(3.0)), h0)
    np.testing.assert_allclose(h, linear_recurrence(gamma, 0.75 * z, h0), rtol=1e-13)


def test_the_weight_acts_on_columns():
    """W_g[0, 1] lets channel 1 open the gate of channel 0, and not the other way round."""
    W = np.array([[0.0, 1000.0], [0.0, 0.0]])
    z, nothing = np.array([[[4.0, 8.0]]]), np.zeros((1, 1, 2))
    assert gated_recurrence(z, nothing, W, np.zeros(2), np.ones((1, 2))).tolist() == [[[4.0, 4.0]]]


def test_a_stabilized_step_is_a_gated_step_with_other_decay():
    """norm "none": u = g z + (1 - g + gamma) h with the gate's own g."""
    z, gate_z, gamma, h0 = random(14, 2, 1, 3), random(15, 2, 1, 3), decays(16, 2, 1, 3), random(17, 2, 3)
    W, b = random(18, 3, 3), random(19, 3)
    ones = np.ones(3)
    got = stabilized_recurrence(z, gate_z, gamma, W, b, ones, ones, h0, norm="none")
    g = 1 / (1 + np.exp(-(gate_z[:, 0] + h0 @ W.T + b)))
    np.testing.assert_allclose(got[:, 0], g * z[:, 0] + (1 - g + gamma[:, 0]) * h0, rtol=1e-13)


def test_norms_by_hand():
    x, ones, zeros = np.array([[3.0, -4.0, 0.0, 5.0]]), np.ones(4), np.zeros(4)
    np.testing.assert_allclose(normalize("rms", x, ones, zeros, 0.0), x / np.sqrt(12.5), rtol=1e-15)
    np.testing.assert_allclose(normalize("rms", x, 2 * ones, ones, 12.5), 2 * x / 5, rtol=1e-15)
    layer = normalize("layer", x, ones, 7 * ones, 1e-3)
    np.testing.assert_allclose(layer, 7 + (x - x.mean()) / np.sqrt(x.var() + 1e-3), rtol=1e-15)
    assert normalize("none", x, zeros, ones, 1.0) is x


def test_the_layer_norm_forgets_an_offset_and_the_rms_norm_does_not():
    x, ones, zeros = random(20, 5, 6), np.ones(6), np.zeros(6)
    moved, still = ({norm: normalize(norm, y, ones, zeros, 0.1) for norm in ("layer", "rms")} for y in (x + 3, x))
    np.testing.assert_allclose(moved["layer"], still["layer"], rtol=1e-12)
    assert np.abs(moved["rms"] - still["rms"]).max() > 0.1


def test_the_carry_is_the_clipped_state():
    one = np.ones(1)
    h = stabilized_recurrence(column(8, 0), column(0, 0), column(0, 0.25), 0 * ONE, 0 * one, one, 0 * one, 0 * ONE,
                              norm="none", clip=2.0)  # fmt: skip
    assert h.ravel().tolist() == [2.0, 1.5]


# ---- decay gate --------------------------------------------------------------------------
def test_gelu_is_x_times_a_distribution_function():
    x = np.linspace(-6, 6, 101)
    np.testing.assert_allclose(gelu_of("erf", x), x * (1 + erf(x / np.sqrt(2))) / 2, rtol=1e-14, atol=1e-16)
    assert np.abs(gelu_of("erf", x) - gelu_of("tanh", x)).max() == pytest.approx(4.7e-4, rel=0.1)
    for form, h in itertools.product(("erf", "tanh"), (1e-5,)):
        slope = (gelu_of(form, x + h) - gelu_of(form, x - h)) / (2 * h)
        np.testing.assert_allclose(gelu_slope(form, x), slope, atol=1e-9)


def test_the_pathways_may_trade_places():
    rng = np.random.default_rng(21)
    z, k = rng.standard_normal((2, 1, 4, 3))
    base = [rng.standard_normal(s) for s in ((5, 3), (5,), (3, 5), (3,))]
    context = [rng.standard_normal(s) for s in ((5, 3), (5,), (3, 5), (3,))]
    np.testing.assert_allclose(decay_gate(z, k, *base, *context), decay_gate(k, z, *context, *base), rtol=1e-15)


@pytest.mark.parametrize(("bias", "expected"), [(-40.0, 1e-6), (40.0, 1 - 1e-6), (0.0, 0.25)])
def test_the_decay_gate_stays_between_its_limits(bias, expected):
    nothing, one = np.zeros((1, 1)), np.ones((1, 1, 1))
    pathway = (nothing, np.zeros(1), nothing, np.full(1, bias))
    assert decay_gate(one, one, *pathway, *pathway).tolist() == [[[expected]]]
