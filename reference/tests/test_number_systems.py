"""Is one text the same function in float64, in fifty digits, and in balls?"""

import mpmath
import numpy as np
import pytest
from flint import arb, ctx
from scipy.special import erf, expit

from mmrec.reference import numbers

SYSTEMS = ("mpmath", "balls")


@pytest.fixture(params=SYSTEMS)
def exactly(request, reference, monkeypatch):
    """function(*float arrays, **options) -> list of float64 arrays, evaluated with many digits."""
    if request.param == "balls":
        monkeypatch.setattr(ctx, "prec", 300)
    kind = arb if request.param == "balls" else mpmath.mpf

    def to_float(number):
        if not isinstance(number, arb):
            return float(number)
        assert float(number.rad()) <= 1e-40 * (1 + abs(float(number.mid())))
        return float(number.mid())

    def evaluate(function, arrays, **options):
        with mpmath.workdps(50):
            results = function(*(reference.objects(kind, x) for x in arrays), **options)
            several = results if isinstance(results, tuple) else (results,)
            return [np.array([to_float(x) for x in r.ravel()]).reshape(r.shape) for r in several]

    return evaluate


def close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-13 * max(1.0, np.abs(expected).max(initial=0.0)))


@pytest.mark.parametrize("seed", (0, 1))
def test_values_agree_with_float64(reference, exactly, op, options, seed):
    arrays = reference.inputs(op, seed)
    (exact,) = exactly(reference.function(op), arrays, **options)
    close(reference.function(op)(*arrays, **options), exact)


def test_adjoints_agree_with_float64(reference, exactly, op, options):
    arrays = reference.inputs(op, 2)
    g = np.random.default_rng(3).standard_normal((2, 4, 3))
    exact = exactly(reference.adjoint(op), [*arrays, g], **options)
    found = reference.adjoint(op)(*arrays, g, **options)
    assert [x.shape for x in found] == [x.shape for x in exact] == [x.shape for x in arrays]
    for got, expected in zip(found, exact, strict=True):
        close(got, expected)


@pytest.mark.parametrize(
    ("name", "second", "domain"),
    [
        ("exp", np.exp, (-40, 40)),
        ("log", np.log, (1e-6, 40)),
        ("sqrt", np.sqrt, (0, 40)),
        ("rsqrt", lambda x: 1 / np.sqrt(x), (1e-6, 40)),
        ("tanh", np.tanh, (-5, 5)),
        ("erf", erf, (-4, 4)),
        ("sigmoid", expit, (-40, 40)),
    ],
)
def test_elementary_functions_are_the_usual_ones(exactly, name, second, domain):
    function = getattr(numbers, name)
    x = np.linspace(*domain, 23)
    np.testing.assert_allclose(exactly(function, [x])[0], second(x), rtol=1e-14)
    np.testing.assert_allclose(function(x), second(x), rtol=1e-15)


def test_a_written_constant_is_as_exact_as_the_number_system(reference, exactly):
    one = np.ones(1)
    assert numbers.constant("0.1", one) == 0.1
    (error,) = exactly(lambda x: (numbers.constant("0.1", x) * 10 - 1) * numbers.constant("1e30", x) + 0 * x, [one])
    assert abs(error[0]) < 1e-10  # in double precision it would be 5.5e13
    circle = "3.14159265358979323846264338327950288"
    (error,) = exactly(lambda x: (numbers.pi(x) - numbers.constant(circle, x)) + 0 * x, [one])
    assert abs(error[0]) < 1e-34


@pytest.mark.parametrize(("x", "expected"), [(-3.0, -2.0), (-2.0, -2.0), (0.5, 0.5), (1.0, 1.0), (4.0, 1.0)])
def test_clip_limits_and_between_tells_where(exactly, x, expected):
    assert exactly(lambda a: numbers.clip(a, -2, 1), [np.array([x])])[0][0] == expected
    assert numbers.clip(np.array([x]), -2, 1)[0] == expected
    assert numbers.between(np.array([x]), -2, 1)[0] == (x == expected)
    told = exactly(lambda a: numbers.where(numbers.between(a, -2, 1), a * 0 + 1, a * 0), [np.array([x])])
    assert told[0][0] == (x == expected)


def test_minus_infinity_is_clamped_in_every_system(reference, exactly):
    log_gamma = np.array([-np.inf, -50.0, -60.0, 0.0]).reshape(1, 4, 1)
    (exact,) = exactly(reference.function("log_decay_product"), [log_gamma, np.ones((1, 1))])
    assert exact[0, :, 0].tolist() == [-49, -99, -149, -149]


def test_nan_passes_through_maximum_and_clip():
    assert np.isnan(numbers.maximum(np.array([np.nan]), 0.0)[0])
    assert np.isnan(numbers.clip(np.array([np.nan]), 0.0, 1.0)[0])
    assert mpmath.isnan(numbers.maximum(np.array([mpmath.nan]), mpmath.mpf(0))[0])


def test_a_wide_logit_neither_warns_nor_overflows():
    assert numbers.sigmoid(np.array([-1000.0, 1000.0])).tolist() == [0.0, 1.0]


def test_inputs_are_left_alone(reference, op, options):
    arrays = reference.inputs(op, 4)
    before = [x.copy() for x in arrays]
    result = reference.function(op)(*arrays, **options)
    reference.adjoint(op)(*arrays, np.ones_like(result), **options)
    assert all(np.array_equal(x, y) for x, y in zip(arrays, before, strict=True))
    assert not any(np.shares_memory(result, x) for x in arrays)
