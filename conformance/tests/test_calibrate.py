"""Does the calibration see an assumption that does not hold, and only that?"""

import io

import numpy as np
import pytest
from rich.console import Console

from mmrec.conformance import calibrate
from mmrec.conformance.elementary import FUNCTIONS, Calculator, available, calculators, of_numpy
from mmrec.conformance.sweeps import NORMAL, SUBNORMAL_OPERANDS, SUBNORMAL_RESULTS, pairs, sweeps
from mmrec.numerics.error_model import ErrorModel, model_for
from mmrec.numerics.formats import FLOAT32, FLOAT64
from mmrec.numerics.running_error import RunningError

COARSE = 10**9  # one chunk of each interval


def correct(function):
    """The function evaluated in float64 and rounded once, for float32; NumPy's own for float64."""

    def call(*operands):
        with np.errstate(all="ignore"):
            wide = calibrate.IN_FLOAT64[function](*(x.astype(np.float64) for x in operands))
            return wide.astype(operands[0].dtype)

    return call


def machine(**wrong):
    return Calculator("machine", {name: correct(name) for name in FUNCTIONS} | wrong)


def measured(of, *functions):
    return {(m.format, m.function, m.kind): m for m in calibrate.measure([of], COARSE, functions or FUNCTIONS)}


@pytest.fixture(scope="module")
def good():
    return measured(machine())


def test_a_correct_machine_holds_everywhere(good):
    assert [key for key, m in good.items() if not m.holds] == []
    assert {function for _, function, _ in good} == set(FUNCTIONS)
    assert all(m.error <= 1.0000001 for (form, _, kind), m in good.items() if (form, kind) == ("float32", NORMAL))


def test_rounding_and_subnormals_of_a_correct_machine(good):
    assert all(m.rounded and m.kept for (form, *_), m in good.items() if form == "float32")


def test_a_bad_exponential_does_not_hold():
    def bad(x):
        return (np.exp(x.astype(np.float64)) * (1 + 2.0**-18)).astype(x.dtype)

    found = measured(machine(exp=bad), "exp")["float32", "exp", NORMAL]
    assert not found.holds
    assert found.error == pytest.approx(64, abs=2)
    assert found.used > 10  # where |x| is small, 4 u are allowed
    assert abs(found.used_at[0]) < 1


def test_the_least_slope_of_the_exponential():
    def product_rounded(x):  # exp2(x log2 e) with the product rounded to float32
        return np.exp2((x * np.float32(np.log2(np.e))).astype(np.float64)).astype(x.dtype)

    found = measured(machine(exp=product_rounded), "exp")["float32", "exp", NORMAL]
    assert found.holds
    assert 0.5 < found.exp_slope < ErrorModel().exp_slope


def test_flushed_results_and_operands_are_allowed_and_seen():
    def flushed(x):
        return np.where(np.abs(x) < np.finfo(x.dtype).tiny, x.dtype.type(0), x)

    results = measured(machine(multiply=lambda x, y: flushed(x * y)), "multiply")
    assert results["float32", "multiply", SUBNORMAL_RESULTS].holds
    assert not results["float32", "multiply", SUBNORMAL_RESULTS].kept
    operands = measured(machine(multiply=lambda x, y: flushed(x) * flushed(y)), "multiply")
    for form in ("float32", "float64"):
        assert operands[form, "multiply", SUBNORMAL_OPERANDS].holds
        assert not operands[form, "multiply", SUBNORMAL_OPERANDS].kept
    assert operands["float32", "multiply", NORMAL].holds


def test_a_result_that_is_not_finite_does_not_hold():
    found = measured(machine(tanh=lambda x: np.where(x > 9, x.dtype.type(np.nan), np.tanh(x))), "tanh")
    assert found["float32", "tanh", NORMAL].used == np.inf
    assert not found["float32", "tanh", NORMAL].holds


def test_float64_is_measured_finer_than_float64():
    found = measured(machine(log=lambda x: (np.log(x) * (1 + 2.0**-50)).astype(x.dtype)), "log")
    assert 4 < found["float64", "log", NORMAL].error < 12
    assert not found["float64", "log", NORMAL].holds


def test_numpy_is_measured_by_name():
    measurements = calibrate.calibrate(COARSE, ["numpy"])
    assert {m.framework for m in measurements} == {"numpy"}
    assert all(m.rounded for m in measurements if m.function in ("multiply", "add") and m.kind == NORMAL)


@pytest.mark.parametrize("name", [name for name in available() if name != "numpy"])
def test_every_framework_returns_what_it_is_asked_for(name):
    functions = calculators([name])[0].functions
    for form in (FLOAT32, FLOAT64):
        operands = pairs(np.random.default_rng(0), form, "multiply", NORMAL, 64)
        for function in ("multiply", "add"):
            result = functions[function](*operands)
            assert result.dtype == form.dtype
            assert np.array_equal(result, of_numpy()[function](*operands))
        one = np.full(3, 1.0, form.dtype)
        assert functions["erf"](one) == pytest.approx(0.8427007929497149, rel=1e-6)


def test_unknown_frameworks_and_strides_are_refused():
    with pytest.raises(ValueError, match="'cupy' is not one of numpy, torch"):
        calibrate.calibrate(frameworks=["cupy"])
    with pytest.raises(ValueError, match="stride: 0"):
        calibrate.calibrate(stride=0)


def test_a_stride_of_one_would_look_at_every_number():
    [whole] = [sweep for sweep in sweeps(FLOAT32, "sqrt", 1) if sweep.kind == NORMAL]
    first = next(whole.chunks())[0]
    assert np.array_equal(first.view(np.int32), np.arange(len(first)) + first.view(np.int32)[0])
    assert len(whole) * len(first) == 2**31 - 2**24  # the positive normal numbers


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("form", [FLOAT32, FLOAT64], ids=lambda form: form.name)
def test_arguments_are_of_the_kind_they_are_said_to_be(form, function):
    for sweep in sweeps(form, function, COARSE):
        chunks = list(sweep.chunks())
        assert len(chunks) == len(sweep)
        first = np.abs(np.concatenate([operands[0] for operands in chunks]).astype(np.float64))
        assert np.all(np.isfinite(first)) and np.all(first > 0)
        assert np.all((first < form.tiny) == (sweep.kind == SUBNORMAL_OPERANDS))
        if sweep.kind == SUBNORMAL_RESULTS:
            high, _ = calibrate.exact_values(function, form, chunks[0])
            assert np.mean(np.abs(high) < form.tiny) > 0.9


def test_printing_says_what_does_not_hold():
    def printed(measurements):
        console = Console(file=io.StringIO(), width=100)
        return calibrate.print_calibration(measurements, console), console.file.getvalue()

    holds, text = printed(calibrate.measure([machine()], COARSE, ["erf"]))
    assert holds
    assert "Every assumption holds on this machine" in text
    holds, text = printed(calibrate.measure([machine(erf=lambda x: 0 * x)], COARSE, ["erf"]))
    assert not holds
    assert "machine, float32, normal numbers: erf" in text
    assert "assumptions do not hold" in text


# ---- the error model's own statement --------------------------------------------------------
@pytest.mark.parametrize("function", ["exp", "log", "sigmoid", "tanh", "erf", "sqrt", "rsqrt"])
def test_the_model_allows_what_running_error_numbers_allow(function):
    model = model_for(FLOAT32)
    x = np.linspace(0.5, 60, 100) * (-1 if function in ("exp", "sigmoid") else 1)
    number = getattr(RunningError(x, 0.0, model), function)()
    assert number.error / (model.u * np.abs(number.value)) == pytest.approx(model.allowed(function, x), rel=1e-9)


def test_the_model_allows_two_operands_one_rounding():
    assert np.all(ErrorModel().allowed("multiply", np.ones(3)) == 1)
    with pytest.raises(AttributeError):
        ErrorModel().allowed("cosine", 1.0)
