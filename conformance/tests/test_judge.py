"""Can every verdict be reached, and does each message hold what a kernel's author needs?"""

import numpy as np
import pytest

from mmrec.conformance.cases import Case
from mmrec.conformance.judge import Trial, compare_arrays, identical
from mmrec.conformance.ops import all_ops
from mmrec.conformance.oracle import enclosures
from mmrec.conformance.verdicts import Finding, Record, Verdict
from mmrec.conformance.worker import Answer
from mmrec.numerics.bounds import Question
from mmrec.numerics.formats import BFLOAT16, FLOAT32
from mmrec.numerics.judgement import Enclosure

CASES = {
    name: Case.parse("/".join([name, "float32", next(iter(op.regimes)), "B2-T5-D3", "seed1", "contiguous",
                               *(f"{option}={choices[0]}" for option, choices in op.options.items())]))
    for name, op in all_ops().items()
}  # fmt: skip


def rounded_reference(case, gradients=False):
    """What a subject that rounds the reference once would answer."""
    arrays, options = case.inputs(), dict(case.options)
    answer = Answer(result=case.storage.round(case.row.reference(*arrays.values(), **options)), dtype=case.dtype)
    if gradients:
        found = case.row.adjoint(*arrays.values(), case.cotangent(), **options)
        answer.gradients = {n: case.storage.round(x) for n, x in zip(arrays, found, strict=True)}
        answer.gradient_dtypes = dict.fromkeys(arrays, case.dtype)
    return answer


def trial_of(case, answer=None, declares=None):
    return Trial(lambda request: answer, case.row, case.dtype, declares or {})


def judged(case, answer, **more):
    return trial_of(case).judge_values(case, case.inputs(), answer, **more)


# ---- values and gradients ----------------------------------------------------------------------
@pytest.mark.parametrize("op", CASES)
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_the_rounded_reference_conforms(op, dtype):
    case = Case.parse(str(CASES[op]).replace("float32", dtype))
    answer = rounded_reference(case, gradients=True)
    finding = judged(case, answer)
    assert finding.verdict is Verdict.CONFORMS and finding.budget <= 1 and finding.case == str(case)
    assert finding.steps == 5 and finding.conforms
    finding = trial_of(case).judge_gradients(case, case.inputs(), case.cotangent(), answer)
    assert finding.verdict is Verdict.CONFORMS and finding.where.startswith("gradient of ")


@pytest.mark.parametrize("op", CASES)
def test_a_result_off_by_a_thousandth_is_out_of_bound(op):
    case = CASES[op]
    answer = rounded_reference(case)
    answer.result[1, 3, 2] = answer.result[1, 3, 2] * 1.001 + 1e-3
    finding = judged(case, answer)
    assert finding.verdict is Verdict.OUT_OF_BOUND and finding.budget > 1 and not finding.conforms
    assert finding.where in ("result[1, 3, 2]", "result[1, 4, 2]") or case.row.judged_by_defect
    assert finding.got is not None and finding.expected is not None and finding.tolerance is not None
    for part in (finding.where, f"{finding.got:.9g}", f"{finding.expected:.9g}", "x the tolerance"):
        assert part in finding.message


@pytest.mark.parametrize("op", CASES)
def test_each_gradient_is_judged_by_its_name(op):
    case = CASES[op]
    for name in case.row.arguments:
        answer = rounded_reference(case, gradients=True)
        answer.gradients[name] = answer.gradients[name] + 1.0
        finding = trial_of(case).judge_gradients(case, case.inputs(), case.cotangent(), answer)
        assert finding.verdict is Verdict.OUT_OF_BOUND
        assert finding.where.startswith("gradient of ") and finding.message.startswith(finding.where)
        if name not in ("z", "gamma"):  # of a recurrence these two tell the state's gradient, on which the others rest
            assert finding.where.startswith(f"gradient of {name}[")


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("op", CASES)
def test_a_number_that_is_not_finite_has_its_own_verdict(op, number):
    case = CASES[op]
    answer = rounded_reference(case)
    answer.result[0, 4, 1] = number
    finding = judged(case, answer)
    assert finding.verdict is Verdict.NOT_FINITE and finding.budget == np.inf
    assert finding.where == "result[0, 4, 1]" and str(number) in finding.message


def test_only_the_selected_part_is_judged():
    case = CASES["linear_recurrence"]
    answer = rounded_reference(case)
    answer.result[:, 3:] = np.nan
    assert judged(case, answer, select=np.s_[:, :3]).conforms
    assert not judged(case, answer).conforms
    answer = rounded_reference(case)
    answer.result[1] = np.nan
    assert judged(case, answer, select=np.s_[0]).conforms and not judged(case, answer, select=np.s_[1]).conforms


# ---- misbehaviour --------------------------------------------------------------------------------
def changed(**attributes):
    answer = rounded_reference(CASES["decay_product"], gradients=True)
    for name, value in attributes.items():
        setattr(answer, name, value)
    return answer


MISBEHAVIOUR = {
    Verdict.RAISED: (changed(failure=Verdict.RAISED, message="ValueError: no"), "ValueError: no"),
    Verdict.CRASHED: (changed(failure=Verdict.CRASHED, message="the process was killed by SIGSEGV"), "SIGSEGV"),
    Verdict.TIMED_OUT: (changed(failure=Verdict.TIMED_OUT, message="no answer within 60 s"), "60 s"),
    Verdict.WRONG_SHAPE: (changed(result=np.zeros((2, 5, 4))), "result has shape (2, 5, 4), expected (2, 5, 3)"),
    Verdict.WRONG_DTYPE: (changed(dtype="float64"), "result is float64, expected float32"),
    Verdict.INPUT_MUTATED: (changed(mutated=["gamma", "initial"]), "changed its input gamma, initial"),
    Verdict.NOT_REPRODUCIBLE: (changed(same_twice=False), "other bits the second time"),
}


@pytest.mark.parametrize("verdict", MISBEHAVIOUR)
def test_misbehaviour_comes_before_any_number(verdict):
    case = CASES["decay_product"]
    answer, words = MISBEHAVIOUR[verdict]
    of_gradients = trial_of(case).judge_gradients(case, case.inputs(), case.cotangent(), answer)
    for finding in (judged(case, answer), of_gradients):
        assert finding.verdict is verdict and finding.budget == np.inf
        assert words in finding.message and finding.case == str(case)


def test_a_view_of_an_input_counts_as_writing_to_it():
    finding = judged(CASES["decay_product"], changed(aliased=["initial"]))
    assert finding.verdict is Verdict.INPUT_MUTATED and "view of initial" in finding.message


def test_gradients_have_the_shape_and_dtype_of_their_arguments():
    case = CASES["decay_product"]
    answer = changed()
    answer.gradients["initial"] = np.zeros((2, 1, 3))
    finding = trial_of(case).judge_gradients(case, case.inputs(), case.cotangent(), answer)
    assert finding.verdict is Verdict.WRONG_SHAPE
    assert finding.message == "gradient of initial has shape (2, 1, 3), expected (2, 3)"
    answer = changed()
    answer.gradient_dtypes["gamma"] = "bfloat16"
    finding = trial_of(case).judge_gradients(case, case.inputs(), case.cotangent(), answer)
    assert finding.verdict is Verdict.WRONG_DTYPE
    assert finding.message == "gradient of gamma is bfloat16, expected float32"


# ---- comparisons -------------------------------------------------------------------------------
def test_an_empty_output_conforms():
    nothing = np.zeros((2, 0, 3))
    assert compare_arrays(FLOAT32, "result", nothing, Enclosure(nothing, nothing)).conforms


def test_the_worst_element_is_shown():
    value = np.array([[1.0, 2.0, 4.0]])
    output = value + np.array([[1e-6, 5e-6, 2e-6]])
    finding = compare_arrays(FLOAT32, "result", output, Enclosure(value, np.full(value.shape, 1e-6)))
    assert finding.where == "result[0, 1]" and finding.budget == pytest.approx(5.0, rel=1e-3)
    assert finding.error == pytest.approx(5e-6 / 4) and finding.allowed == pytest.approx(1e-6 / 4)


def test_narrow_outputs_are_judged_by_what_rounds_to_them():
    value, tolerance = np.array([1.0 + 2.0**-9]), np.array([2.0**-20])
    for output, conforms in ((1.0, True), (1.0 + 2.0**-7, False)):
        assert compare_arrays(BFLOAT16, "result", np.array([output]), Enclosure(value, tolerance)).conforms is conforms


def test_identical_demands_every_bit_and_knows_nan():
    case = CASES["decay_product"]
    assert identical(case, "result", np.array([1.0, np.nan]), np.array([1.0, np.nan])).conforms
    finding = identical(case, "result", np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1.0, 2.0]))
    assert finding.verdict is Verdict.OUT_OF_BOUND and finding.budget == np.inf and finding.tolerance == 0
    assert finding.message == "result[1, 0] is 3, exactly 1 is required"
    assert not identical(case, "result", np.array([np.nan]), np.zeros(())).conforms
    assert identical(case, "result", np.zeros((2, 0, 3)), np.zeros(())).conforms


# ---- records ---------------------------------------------------------------------------------
def record():
    return Record("values", ["SCAN-2"], "mine", "decay_product", "float32")


def test_a_record_keeps_the_worst_and_counts_all():
    kept = record()
    for share in (0.25, 0.75, 0.5):
        kept.add(Finding(Verdict.CONFORMS, share, message=str(share), steps=4, error=share, allowed=1.0))
    assert (kept.verdict, kept.budget, kept.examples, kept.worst["message"]) == (Verdict.CONFORMS, 0.75, 3, "0.75")
    assert kept.series == {"4": {"error": 0.75, "allowed": 1.0, "budget": 0.75}}


def test_a_failure_is_worse_than_any_budget_and_stays():
    kept = record()
    kept.add(Finding(Verdict.CONFORMS, 0.9))
    kept.add(Finding(Verdict.OUT_OF_BOUND, 0.5, message="first"))
    kept.add(Finding(Verdict.CONFORMS, 0.95))
    kept.add(Finding(Verdict.CRASHED, np.inf, message="later"))
    assert kept.verdict is Verdict.OUT_OF_BOUND and kept.worst["message"] == "first" and kept.examples == 4
    kept.replace_by(Finding(Verdict.NOT_FINITE, np.inf, message="minimal"))
    assert kept.verdict is Verdict.NOT_FINITE and kept.worst["message"] == "minimal" and kept.examples == 4


# ---- the declared class ---------------------------------------------------------------------------
def test_the_declared_class_reaches_the_bound():
    case = CASES["decay_product"]
    found = {
        name: enclosures(case.row, Question(case.inputs(), {}, FLOAT32, declares=declares))["result"].tolerance.max()
        for name, declares in (("direct", {}), ("log", {"class": "log", "depth": "sequential"}))
    }
    assert 0 < found["direct"] < found["log"]
    answer = rounded_reference(case)
    answer.result[:, -1] = case.storage.round(answer.result[:, -1] * (1 + 20 * 2.0**-24))
    assert not judged(case, answer).conforms
    declared = trial_of(case, declares={"class": "log", "depth": "sequential"})
    assert declared.judge_values(case, case.inputs(), answer).conforms


def test_questions_carry_case_inputs_and_options():
    case, seen = CASES["stabilized_recurrence"], []
    trial = Trial(lambda request: seen.append(request) or Answer(), case.row, case.dtype, {})
    trial.ask(case, case.inputs(), case.cotangent(), checked=True)
    (request,) = seen
    assert (request.op, request.dtype, request.layout, request.checked) == (case.op, "float32", "contiguous", True)
    assert request.options == {"norm": "rms", "eps": 1e-6, "clip": 100.0}
    assert list(request.arrays) == list(case.row.arguments)
