"""Is the budget the share of a tolerance, and the distance the one to what rounds to the output?"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec.numerics.formats import BFLOAT16, FLOAT16, FLOAT32, FLOAT64
from mmrec.numerics.judgement import Enclosure, budget, distance_to_preimage

modest = settings(max_examples=150, derandomize=True, deadline=None)
NARROW = (BFLOAT16, FLOAT16)
narrow = pytest.mark.parametrize("storage", NARROW, ids=lambda f: f.name)


def used(output, value, tolerance, storage=FLOAT32):
    arithmetic = FLOAT64 if storage is FLOAT64 else FLOAT32
    enclosure = Enclosure(np.array([value]), np.array([tolerance]))
    return float(budget(np.array([output]), enclosure, storage, arithmetic)[0])


def distance(output, value, storage):
    return float(distance_to_preimage(np.array([output]), np.array([value]), storage)[0])


def neighbours(output, storage):
    """The numbers of the format next to ``output``, below and above."""
    bits = np.array([abs(output)]).astype(storage.dtype).view(np.uint16)[0]
    if bits == 0:
        return -storage.smallest, storage.smallest
    inner, outer = np.array([bits - 1, bits + 1], np.uint16).view(storage.dtype).astype(np.float64)
    return (inner, outer) if output > 0 else (-outer, -inner)


def float32s(storage):
    """Float32 numbers across the whole range of a narrow format, subnormal ones included."""
    reach = float(np.float32(storage.largest))
    wide = st.floats(-reach, reach, width=32)
    tiny = st.floats(-float(np.float32(4 * storage.tiny)), float(np.float32(4 * storage.tiny)), width=32)
    return wide | tiny | st.floats(-4, 4, width=32)


# ---- distance to the preimage -------------------------------------------------------------
@narrow
@modest
@given(data=st.data())
def test_a_number_is_in_the_preimage_of_its_rounding_and_of_no_other(storage, data):
    """NUM-3: to nearest, with both neighbours at a tie."""
    x = data.draw(float32s(storage))
    rounded = float(storage.round(np.array(x)))
    assert distance(rounded, x, storage) == 0
    assert distance(-rounded, -x, storage) == 0
    for other in neighbours(rounded, storage):
        if not np.isfinite(other):
            continue
        tie = x == (rounded + other) / 2
        away = distance(other, x, storage)
        assert away == distance(-other, -x, storage)
        assert (away == 0) if tie else (away > 0)


@narrow
@modest
@given(data=st.data())
def test_the_distance_is_how_far_a_number_must_move_to_round_there(storage, data):
    """NUM-3: the distance to the preimage."""
    x = data.draw(float32s(storage))
    output = float(storage.round(np.array(data.draw(float32s(storage)))))
    away = distance(output, x, storage)
    if away == 0 or not np.isfinite(output):
        return
    little = 1e-3 * float(storage.spacing(np.array(output)))
    if little < 1e-13 * abs(x):  # the way there is too long for float64
        return
    towards = np.sign(output - x)
    assert float(storage.round(np.array(x + towards * (away + little)))) == output
    assert float(storage.round(np.array(x + towards * (away - little)))) != output


@narrow
def test_below_a_power_of_two_the_preimage_is_half_as_wide(storage):
    u = storage.unit
    assert distance(1.0, 1 - u / 2, storage) == 0 and distance(1.0, 1 + u, storage) == 0
    assert distance(1.0, 1 - u, storage) == u / 2
    assert distance(1.0, 1 + 2 * u, storage) == u


@narrow
def test_around_the_smallest_numbers_the_preimage_is_symmetric(storage):
    tiny, gap = storage.tiny, storage.smallest
    assert distance(0.0, gap / 2, storage) == distance(0.0, -gap / 2, storage) == 0
    assert distance(0.0, gap, storage) == distance(0.0, -gap, storage) == gap / 2
    assert distance(gap, gap / 2, storage) == 0 and distance(gap, 0.0, storage) == gap / 2
    assert distance(tiny, tiny - gap / 2, storage) == 0 == distance(tiny, tiny + gap / 2, storage)
    assert distance(tiny, tiny - gap, storage) == gap / 2
    assert distance(-gap, gap, storage) == 3 * gap / 2


# ---- budget -----------------------------------------------------------------------------
def test_the_budget_is_the_share_of_the_tolerance():
    """NUM-2"""
    assert used(1.5, 1.0, 1.0) == pytest.approx(0.5)
    assert used(0.5, 1.0, 0.25) == pytest.approx(2.0)
    assert used(-3.0, -1.0, 1.0, FLOAT64) == pytest.approx(2.0)
    assert used(1.0, 1.0, 0.0) == 0.0


@pytest.mark.parametrize("storage", [FLOAT64, FLOAT32, *NARROW], ids=lambda f: f.name)
def test_a_tolerance_of_zero_demands_equality(storage):
    """NUM-7"""
    following = 1 + 2 * storage.unit
    assert used(1.0, 1.0, 0.0, storage) == 0.0
    assert used(following, 1.0, 0.0, storage) > 1e3
    assert used(-1.0, 1.0, 0.0, storage) > 1e3
    assert used(storage.smallest, 0.0, 0.0, storage) == np.inf
    assert used(-0.0, 0.0, 0.0, storage) == 0.0


@pytest.mark.parametrize("storage", [FLOAT64, FLOAT32, *NARROW], ids=lambda f: f.name)
@pytest.mark.parametrize("tolerance", [0.0, 1.0, np.inf])
def test_nan_is_never_excused_by_a_tolerance(storage, tolerance):
    """NUM-4"""
    assert used(np.nan, 1.0, tolerance, storage) == np.inf
    assert used(1.0, np.nan, tolerance, storage) == np.inf
    assert used(np.nan, np.inf, tolerance, storage) == np.inf
    assert used(np.nan, np.nan, tolerance, storage) == 0.0


def test_a_tolerance_that_is_nan_excuses_nothing():
    assert used(1.5, 1.0, np.nan) == np.inf


@pytest.mark.parametrize("storage", [FLOAT64, FLOAT32, *NARROW], ids=lambda f: f.name)
def test_infinity_conforms_only_where_the_value_may_overflow(storage):
    """NUM-4"""
    large = storage.largest
    assert used(np.inf, np.inf, 0.0, storage) == used(-np.inf, -np.inf, 0.0, storage) == 0.0
    assert used(-np.inf, np.inf, 0.0, storage) == used(np.inf, -np.inf, 0.0, storage) == np.inf
    assert used(np.inf, large / 2, large / 8, storage) == np.inf
    assert used(np.inf, large / 2, 0.75 * large, storage) == 0.0
    assert used(-np.inf, large / 2, 0.75 * large, storage) == np.inf
    assert used(large, np.inf, 1.0, storage) == np.inf


@narrow
def test_a_value_beyond_the_largest_number_must_be_infinite(storage):
    """NUM-4"""
    beyond = 1.5 * storage.largest
    assert used(np.inf, beyond, 0.0, storage) == 0.0
    assert used(storage.largest, beyond, 0.0, storage) > 1
    half_gap = storage.spacing(np.array([storage.largest]))[0] / 2
    assert used(storage.largest, storage.largest + half_gap / 2, 0.0, storage) == 0.0


@narrow
@modest
@given(data=st.data())
def test_roundings_of_legal_results_conform_and_others_do_not(storage, data):
    """NUM-3: the legal outputs are the roundings of value - tolerance .. value + tolerance."""
    value = data.draw(st.floats(-100, 100, width=32))
    tolerance = data.draw(st.floats(0, 1)) * abs(value) * 2 * storage.unit
    held = value + data.draw(st.floats(-1, 1)) * tolerance
    output = float(storage.round(np.array(np.float32(held))))
    assert used(output, value, tolerance + abs(value) * FLOAT32.unit, storage) <= 1
    low, high = storage.round(np.array([value - 1.01 * tolerance - 1e-30, value + 1.01 * tolerance + 1e-30]))
    for outside in (neighbours(low, storage)[0], neighbours(high, storage)[1]):
        assert used(float(outside), value, tolerance, storage) > 1
