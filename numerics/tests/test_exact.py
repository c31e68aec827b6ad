"""Are the two exact oracles exact, and do they say so when they cannot be?"""

import mpmath
import numpy as np
import pytest
from flint import ctx

from mmrec.numerics.exact import evaluate_balls, evaluate_mpmath
from mmrec.reference.decay_product import decay_product
from mmrec.reference.gated_recurrence import gated_recurrence, gated_recurrence_adjoint
from mmrec.reference.linear_recurrence import linear_recurrence, linear_recurrence_adjoint
from mmrec.reference.log_decay_product import log_decay_product


def random(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def test_balls_enclose_what_fifty_digits_say():
    a, b, h0 = random(0, 2, 5, 3).clip(-1, 1), random(1, 2, 5, 3), random(2, 2, 3)
    middle, radius = evaluate_balls(linear_recurrence, [a, b, h0])
    digits = evaluate_mpmath(linear_recurrence, [a, b, h0])
    with mpmath.workdps(50):
        away = np.abs(digits - np.vectorize(mpmath.mpf)(middle))
        assert np.all(away <= radius * (1 + 2.0**-50))  # the radius itself is a rounded float64
    assert np.all(radius <= 2.0**-52 * np.abs(middle))


def test_several_results_come_back_in_order():
    arrays = [random(3, 1, 4, 2).clip(-1, 1), random(4, 1, 4, 2), random(5, 1, 2), random(6, 1, 4, 2)]
    proofs = evaluate_balls(linear_recurrence_adjoint, arrays)
    assert [middle.shape for middle, _ in proofs] == [(1, 4, 2), (1, 4, 2), (1, 2)]
    for (middle, radius), value in zip(proofs, linear_recurrence_adjoint(*arrays), strict=True):
        np.testing.assert_allclose(value, middle, rtol=1e-12, atol=1e-14)
        assert np.all(np.isfinite(radius))


def test_cancellation_costs_bits_and_not_truth():
    """1e30 + 1 - 1e30: float64 says 0, the ball says 1."""
    a, b = np.ones((1, 2, 1)), np.array([1.0, -1e30]).reshape(1, 2, 1)
    middle, radius = evaluate_balls(linear_recurrence, [a, b, np.full((1, 1), 1e30)])
    assert linear_recurrence(a, b, np.full((1, 1), 1e30))[0, 1, 0] == 0
    assert middle[0, 1, 0] == 1 and radius[0, 1, 0] <= 2.0**-52


def test_precision_grows_until_a_chaotic_recurrence_is_known():
    """Errors of a steep gate grow; whether 113 bits suffice or not, the enclosure is tight in the end."""
    rng = np.random.default_rng(7)
    arrays = [rng.standard_normal((1, 24, 2)), rng.uniform(0.95, 1, (1, 24, 2)), 8 * rng.standard_normal((2, 2)),
              np.zeros(2), rng.standard_normal((1, 2))]  # fmt: skip
    middle, radius = evaluate_balls(gated_recurrence, arrays)
    assert np.all(radius <= 2.0**-52 * np.abs(middle))
    np.testing.assert_allclose(middle[:, :3], gated_recurrence(*arrays)[:, :3], rtol=1e-12)


def test_a_formula_that_does_not_determine_its_value_is_refused():
    with pytest.raises(ArithmeticError, match="no tight enclosure with 8192 bits"):
        evaluate_balls(lambda x: x * 0 + 1 / (x - x), [np.ones((1, 1))])


def test_the_precision_is_given_back():
    before = ctx.prec
    evaluate_balls(linear_recurrence, [np.ones((1, 2, 1)), np.ones((1, 2, 1)), np.ones((1, 1))])
    with pytest.raises(ValueError, match="outside"):
        evaluate_balls(linear_recurrence, [2 * np.ones((1, 2, 1)), np.ones((1, 2, 1)), np.ones((1, 1))])
    assert ctx.prec == before


def test_limits_and_infinities_are_exact():
    log_gamma = np.array([-np.inf, -50.0, 0.0, -0.25]).reshape(1, 4, 1)
    middle, radius = evaluate_balls(log_decay_product, [log_gamma, np.ones((1, 1))])
    assert middle.ravel().tolist() == [-49, -99, -99, -99.25] and not radius.any()
    floored, _ = evaluate_balls(decay_product, [np.array([0.0, 1.0]).reshape(1, 2, 1), np.ones((1, 1))])
    assert floored.ravel().tolist() == [np.exp(-50), np.exp(-50)]


def test_gradients_of_a_gated_recurrence_are_certified():
    rng = np.random.default_rng(8)
    arrays = [rng.standard_normal((1, 4, 2)), rng.uniform(0, 1, (1, 4, 2)), rng.standard_normal((2, 2)),
              rng.standard_normal(2), rng.standard_normal((1, 2)), rng.standard_normal((1, 4, 2))]  # fmt: skip
    proofs = evaluate_balls(gated_recurrence_adjoint, arrays)
    for (middle, _), value in zip(proofs, gated_recurrence_adjoint(*arrays), strict=True):
        np.testing.assert_allclose(value, middle, rtol=1e-11, atol=1e-14)
