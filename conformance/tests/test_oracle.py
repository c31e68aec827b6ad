"""Is the oracle judged before anyone else: do float64 and balls agree, and is a wrong reference noticed?"""

from dataclasses import replace

import numpy as np
import pytest

from mmrec.conformance import oracle
from mmrec.conformance.cases import Case
from mmrec.conformance.ops import all_ops
from mmrec.conformance.oracle import OracleError, certify, enclosures, gradient_enclosures
from mmrec.numerics.bounds import Question
from mmrec.numerics.formats import FLOAT32, FLOAT64

REGIMES = [(name, regime) for name, op in all_ops().items() for regime in op.regimes]


def case_of(op, regime=None, sizes="B1-T4-D3", seed=1, dtype="float32", last=False):
    row = all_ops()[op]
    options = [f"{name}={choices[-1 if last else 0]}" for name, choices in row.options.items()]
    regime = regime or next(iter(row.regimes))
    return Case.parse("/".join([op, dtype, regime, sizes, f"seed{seed}", "contiguous", *options]))


@pytest.mark.parametrize(("op", "regime"), REGIMES, ids="-".join)
def test_every_regime_is_certified(op, regime):
    """NUM-10: float64 lies inside the balls."""
    for seed, sizes in enumerate(("B1-T1-D1", "B1-T15-D2", "B2-T9-D1")):
        case = case_of(op, regime, sizes, seed, ("float32", "float64", "bfloat16")[seed], last=seed == 1)
        certify(case, case.inputs(), gradients=True)


def with_reference(monkeypatch, case, **changed):
    """The case's op with another reference or adjoint."""
    rows = {**all_ops(), case.op: replace(case.row, **changed)}
    monkeypatch.setattr("mmrec.conformance.cases.all_ops", lambda: rows)


def in_float64_only(function, change):
    """The function, changed where it is evaluated in float64 and left alone in balls."""

    def changed(*arrays, **options):
        result = function(*arrays, **options)
        return change(result) if arrays[0].dtype == np.float64 else result

    return changed


@pytest.mark.parametrize("op", all_ops())
def test_a_value_that_float64_gets_wrong_is_noticed(op, monkeypatch):
    """NUM-10"""
    case = case_of(op)
    with_reference(monkeypatch, case, reference=in_float64_only(case.row.reference, lambda x: x * (1 + 1e-6)))
    with pytest.raises(OracleError, match=r"result\[.*in float64, .* in balls") as told:
        certify(case, case.inputs(), gradients=False)
    assert str(case) in str(told.value)


@pytest.mark.parametrize("op", all_ops())
def test_a_gradient_that_float64_gets_wrong_is_noticed(op, monkeypatch):
    case = case_of(op)
    wrong = in_float64_only(case.row.adjoint, lambda found: (found[0] * (1 + 1e-6), *found[1:]))
    with_reference(monkeypatch, case, adjoint=wrong)
    with pytest.raises(OracleError, match=f"gradient of {next(iter(case.row.arguments))}"):
        certify(case, case.inputs(), gradients=True)


def test_a_reference_that_is_not_finite_is_noticed(monkeypatch):
    """NUM-10"""
    case = case_of("linear_recurrence")
    with_reference(monkeypatch, case, reference=in_float64_only(case.row.reference, lambda x: x * np.nan))
    with pytest.raises(OracleError, match="not finite"):
        certify(case, case.inputs(), gradients=False)


@pytest.mark.parametrize("op", all_ops())
def test_the_reference_changes_with_every_argument(op):
    """NUM-10: with the options that use all of them."""
    case = case_of(op)
    inputs, options = case.inputs(), dict(case.options)
    options |= {"norm": "layer"} if "norm" in options else {}
    value = case.row.reference(*inputs.values(), **options)
    for name, x in inputs.items():
        moved = case.row.reference(*{**inputs, name: x * 0.75}.values(), **options)
        assert not np.array_equal(moved, value), name


def test_large_cases_are_left_to_the_small_ones_of_their_regime(monkeypatch):
    def refuse(*arrays, **options):
        raise AssertionError("evaluated")

    monkeypatch.setattr(oracle, "evaluate_balls", refuse)
    large = case_of("linear_recurrence", sizes="B1-T257-D2")
    certify(large, large.inputs(), gradients=True)
    empty = case_of("linear_recurrence", sizes="B2-T0-D2")
    certify(empty, empty.inputs(), gradients=True)
    small = case_of("linear_recurrence")
    with pytest.raises(AssertionError, match="evaluated"):
        certify(small, small.inputs(), gradients=True)


@pytest.mark.parametrize("op", [name for name, row in all_ops().items() if not row.judged_by_defect])
def test_values_come_from_the_reference_and_tolerances_from_the_bound(op):
    case = case_of(op)
    inputs, g = case.inputs(), case.cotangent()
    question = Question(inputs, dict(case.options), FLOAT32, cotangent=g)
    found = enclosures(case.row, question)["result"]
    np.testing.assert_array_equal(found.value, case.row.reference(*inputs.values(), **dict(case.options)))
    gradients = gradient_enclosures(case.row, question)
    assert list(gradients) == list(case.row.arguments)
    expected = case.row.adjoint(*inputs.values(), g, **dict(case.options))
    for (name, enclosure), value in zip(gradients.items(), expected, strict=True):
        np.testing.assert_array_equal(enclosure.value, value)
        assert enclosure.tolerance.shape == inputs[name].shape


@pytest.mark.parametrize("op", all_ops())
def test_in_float64_the_reference_s_own_error_is_allowed_beside_the_subject_s(op):
    case = case_of(op, dtype="float64")
    inputs = case.inputs()
    result = case.row.reference(*inputs.values(), **dict(case.options))
    question = Question(inputs, dict(case.options), FLOAT64, result=result)
    alone = case.row.bound.enclose(question)["result"].tolerance
    np.testing.assert_allclose(enclosures(case.row, question)["result"].tolerance, 2 * alone, rtol=1e-12)
    narrow = Question(inputs, dict(case.options), FLOAT32, result=result)
    np.testing.assert_array_equal(enclosures(case.row, narrow)["result"].tolerance,
                                  case.row.bound.enclose(narrow)["result"].tolerance)  # fmt: skip


def test_a_subject_whose_states_explode_is_no_error_of_the_suite():
    case = case_of("gated_recurrence")
    inputs = case.inputs()
    wild = np.full(case.sizes.shape("BTD"), 1e300)
    wild[0, 2] = np.nan
    question = Question(inputs, {}, FLOAT64, wild, case.cotangent(), {name: x * np.inf for name, x in inputs.items()})
    enclosures(case.row, question)
    gradient_enclosures(case.row, question)
