"""Do formats round, space and end as the machine's own do?"""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec.numerics.formats import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, FORMATS, arithmetic_of

modest = settings(max_examples=100, derandomize=True, deadline=None)
NARROW = (BFLOAT16, FLOAT16)
WIDTH = {"float64": 64, "float32": 32, "bfloat16": 16, "float16": 16}
every_format = pytest.mark.parametrize("format", FORMATS.values(), ids=lambda f: f.name)


def every_positive(format):
    """Every positive finite number of a 16-bit format, in order."""
    with np.errstate(invalid="ignore"):  # the codes of NaN
        codes = np.arange(1, 2**15, dtype=np.uint16).view(format.dtype).astype(np.float64)
    return codes[np.isfinite(codes)]


@every_format
def test_constants_are_those_of_the_dtype(format):
    found = ml_dtypes.finfo(format.dtype)
    assert format.largest == float(found.max)
    assert format.tiny == float(found.smallest_normal)
    assert format.smallest == float(found.smallest_subnormal)
    assert format.unit == float(found.eps) / 2
    assert format.name == format.dtype.name and 8 * format.dtype.itemsize == WIDTH[format.name]


@every_format
def test_what_is_representable_is_not_rounded(format):
    x = np.array([0.0, 1.0, -1.5, format.tiny, format.smallest, format.largest, -format.largest, np.inf, -np.inf])
    assert np.array_equal(format.round(x), x)
    assert np.isnan(format.round(np.array([np.nan])))[0]


@pytest.mark.parametrize("format", NARROW, ids=lambda f: f.name)
def test_every_16_bit_number_has_the_spacing_of_its_neighbours(format):
    numbers = every_positive(format)
    assert np.array_equal(format.spacing(numbers)[:-1], np.diff(numbers))
    assert np.array_equal(format.spacing(-numbers), format.spacing(numbers))
    assert format.spacing(np.array([0.0]))[0] == format.smallest == numbers[0]


@pytest.mark.parametrize(("format", "kind"), [(FLOAT32, np.float32), (FLOAT64, np.float64), (FLOAT16, np.float16)])
@modest
@given(data=st.data())
def test_spacing_is_that_of_numpy(format, kind, data):
    bits = data.draw(st.integers(0, 2 ** (WIDTH[format.name] - 1) - 1))
    x = np.array([bits], f"uint{WIDTH[format.name]}").view(kind)[0]
    if np.isfinite(x) and x < np.finfo(kind).max:
        assert format.spacing(np.array([float(x)]))[0] == float(np.spacing(x))


@pytest.mark.parametrize("format", NARROW, ids=lambda f: f.name)
def test_rounding_goes_to_the_nearest_and_ties_to_even(format):
    """Between all neighbours: the midpoint, and a float32 number on either side of it."""
    low, high = every_positive(format)[:-1], every_positive(format)[1:]
    middle = (low + high) / 2
    even = np.where(np.arange(1, low.size + 1) % 2 == 0, low, high)  # codes alternate between even and odd
    assert np.array_equal(format.round(middle), even)
    quarter = (high - low) / 4
    assert np.array_equal(format.round(middle - quarter), low)
    assert np.array_equal(format.round(middle + quarter), high)
    assert np.array_equal(format.round(-middle), -even)


@pytest.mark.parametrize("format", (FLOAT32, *NARROW), ids=lambda f: f.name)
def test_overflow_begins_half_a_gap_beyond_the_largest(format):
    edge = format.largest + format.spacing(np.array([format.largest]))[0] / 2
    assert np.isinf(format.round(np.array([edge, 2 * edge]))).all()
    assert format.round(np.array([edge * (1 - 2.0**-24)]))[0] == format.largest


@modest
@given(st.floats(allow_nan=False, width=64))
def test_float32_and_float16_round_as_numpy_does(x):
    with np.errstate(over="ignore"):
        assert FLOAT32.round(np.array(x)) == float(np.float32(x))
        assert FLOAT16.round(np.array(x)) == float(np.float16(x))


@modest
@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_bfloat16_rounds_as_its_bits_do(x):
    """Add half a unit and the last kept bit, then cut: round to nearest even on the bits of a float32."""
    bits = int(np.array([x], np.float32).view(np.uint32)[0])
    kept = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    assert BFLOAT16.round(np.array(x)) == float(np.array([kept], np.uint32).view(np.float32)[0])


def test_arithmetic_is_float32_at_least():
    assert {name: arithmetic_of(format).name for name, format in FORMATS.items()} == {
        "float64": "float64", "float32": "float32", "bfloat16": "float32", "float16": "float32"}  # fmt: skip
