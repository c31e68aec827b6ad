"""Are the hand-written adjoints the derivatives of their functions? Central differences in eighty digits say so."""

import mpmath
import numpy as np
import pytest

STEP = "1e-26"  # below every decay; differences err by its square, 1e-52; eighty digits leave 1e-54 of rounding
DIGITS = 80


def directional(reference, op, options, arrays, directions, g):
    """(difference quotient, inner product with the adjoint), both with eighty digits."""
    function, step = reference.function(op), mpmath.mpf(STEP)
    ahead = function(*(x + step * v for x, v in zip(arrays, directions, strict=True)), **options)
    behind = function(*(x - step * v for x, v in zip(arrays, directions, strict=True)), **options)
    gradients = reference.adjoint(op)(*arrays, g, **options)
    inner = sum(((x * v).sum() for x, v in zip(gradients, directions, strict=True)), mpmath.mpf(0))
    return (g * (ahead - behind)).sum() / (2 * step), inner


@pytest.mark.parametrize("seed", (10, 11, 12))
def test_adjoints_are_derivatives_in_random_directions(reference, op, options, seed):
    """GRAD-4: central differences in high precision."""
    rng = np.random.default_rng(seed)
    with mpmath.workdps(DIGITS):
        arrays = [reference.objects(mpmath.mpf, x) for x in reference.inputs(op, seed)]
        directions = [reference.objects(mpmath.mpf, rng.standard_normal(x.shape)) for x in arrays]
        g = reference.objects(mpmath.mpf, rng.standard_normal((2, 4, 3)))
        quotient, inner = directional(reference, op, options, arrays, directions, g)
        assert abs(quotient - inner) <= mpmath.mpf("1e-40") * (1 + abs(inner))


def test_each_argument_has_a_derivative_of_its_own(reference, op, options):
    """One argument moves at a time, so that no two mistakes cancel."""
    rng = np.random.default_rng(13)
    with mpmath.workdps(DIGITS):
        arrays = [reference.objects(mpmath.mpf, x) for x in reference.inputs(op, 13, B=1, T=3, D=2)]
        g = reference.objects(mpmath.mpf, rng.standard_normal((1, 3, 2)))
        for moved, x in enumerate(arrays):
            still = [reference.objects(mpmath.mpf, np.zeros(y.shape)) for y in arrays]
            still[moved] = reference.objects(mpmath.mpf, rng.standard_normal(x.shape))
            quotient, inner = directional(reference, op, options, arrays, still, g)
            assert abs(quotient - inner) <= mpmath.mpf("1e-40") * (1 + abs(inner)), list(reference.shapes[op])[moved]


def test_the_gradient_at_a_zero_decay_is_the_exclusion_product(reference):
    """decays a, 0, c: only the product without the zero remains, d y_2 / d gamma_1 = initial a c."""
    gamma = np.array([0.5, 0.0, 0.25, 0.5]).reshape(1, 4, 1)
    g = np.array([1.0, 2.0, 4.0, 8.0]).reshape(1, 4, 1)
    grad, grad_initial = reference.adjoint("decay_product_exact")(gamma, np.full((1, 1), 16.0), g)
    assert grad[0, :, 0].tolist() == [16.0, 16 * 0.5 * (2 + 4 * 0.25 + 8 * 0.125), 0.0, 0.0]
    assert grad_initial.tolist() == [[0.5]]
    floored, _ = reference.adjoint("decay_product")(gamma, np.full((1, 1), 16.0), g)
    assert floored[0, 1, 0] == 0.0  # there the floor binds


def test_the_floor_itself_stops_the_gradient_and_what_is_above_it_does_not(reference):
    floor = np.exp(-50.0)
    gamma = np.array([floor, np.nextafter(floor, 1), np.nextafter(floor, 0), 0.5]).reshape(1, 4, 1)
    grad, _ = reference.adjoint("decay_product")(gamma, np.full((1, 1), 1e60), np.ones((1, 4, 1)))
    assert [bool(x) for x in grad[0, :, 0]] == [False, True, False, True]


@pytest.mark.parametrize(
    ("log_gamma", "passes"), [(-50.0, True), (np.nextafter(-50, -51), False), (0.0, True), (-np.inf, False)]
)
def test_the_clamp_lets_its_own_limits_through(reference, log_gamma, passes):
    grad, grad_initial = reference.adjoint("log_decay_product")(
        np.full((1, 2, 1), log_gamma), np.zeros((1, 1)), np.array([[[2.0], [3.0]]])
    )
    assert grad[0, :, 0].tolist() == ([5.0, 3.0] if passes else [0.0, 0.0])
    assert grad_initial.tolist() == [[5.0]]


@pytest.mark.parametrize(("clip", "passes"), [(1.0, True), (np.nextafter(1, 0), False), (2.0, True)])
def test_the_clip_of_the_state_lets_its_own_limit_through(reference, clip, passes):
    """Gate 1/2, z = 2, h0 = 0: the value before the clip is exactly 1."""
    one = np.ones((1, 1, 1))
    zero, nothing = np.zeros((1, 1)), np.zeros(1)
    gradients = reference.adjoint("stabilized_recurrence")(
        2 * one, 0 * one, 0 * one, zero, nothing, one[0, 0], nothing, zero, one, norm="none", clip=clip
    )
    assert gradients[0][0, 0, 0] == (0.5 if passes else 0.0)


def test_unused_arguments_of_a_norm_get_zero_gradients(reference):
    arrays, g = reference.inputs("stabilized_recurrence", 5), np.ones((2, 4, 3))
    for norm, unused in (("rms", [6]), ("none", [5, 6]), ("layer", [])):
        gradients = reference.adjoint("stabilized_recurrence")(*arrays, g, norm=norm)
        assert [i for i in (5, 6) if not gradients[i].any()] == unused


def test_gradients_of_shared_parameters_are_sums_over_rows_and_steps(reference):
    """Two rows together give the sum of what each gives alone."""
    shared_arguments = {"gated_recurrence": (2, 3), "stabilized_recurrence": (3, 4, 5, 6), "decay_gate": range(2, 10)}
    for op, shared in shared_arguments.items():
        arrays = reference.inputs(op, 6)
        g = np.random.default_rng(7).standard_normal((2, 4, 3))
        together = reference.adjoint(op)(*arrays, g)
        batched = [letters.startswith("B") for letters in reference.shapes[op].values()]
        alone = []
        for row in (slice(0, 1), slice(1, 2)):
            one_row = [x[row] if b else x for x, b in zip(arrays, batched, strict=True)]
            alone.append(reference.adjoint(op)(*one_row, g[row]))
        for i in shared:
            np.testing.assert_allclose(together[i], alone[0][i] + alone[1][i], rtol=1e-12, atol=1e-14)
