"""Does every claim have its experiment, and do the findings follow what is measured?"""

import copy
import json

import jsonschema
import numpy as np
import pytest

from mmrec import spec
from mmrec.conformance import experiments, result
from mmrec.conformance.experiments import (
    clamps,
    clip_in_narrow_formats,
    dead_gate,
    decays_of_the_example,
    divided_by_product,
    log_sum_exp,
    long_stability,
    max_difference,
    parallel_scan,
    three_recurrences,
    tree_work,
)
from mmrec.conformance.experiments._finding import outcome
from mmrec.conformance.experiments._single import single
from mmrec.conformance.ops import all_ops
from mmrec.numerics.formats import FLOAT64
from mmrec.reference.linear_recurrence import linear_recurrence
from mmrec.reference.scan_trees import Cost

CLAIMS = [name for name in spec.clauses() if name.startswith("EXP-")]


@pytest.fixture(scope="module")
def findings():
    found = [module.run("quick") for module in experiments.all_experiments().values()]
    return {finding["clause"]: finding for finding in experiments.in_order(found)}


def test_every_claim_has_one_experiment_and_every_experiment_a_claim(findings):
    assert list(findings) == CLAIMS
    assert len(experiments.all_experiments()) == len(CLAIMS)


def test_findings_fit_the_result_file(findings):
    fragment = result.schema()["properties"]["experiments"]
    jsonschema.validate(json.loads(json.dumps(list(findings.values()), allow_nan=False)), fragment)


@pytest.mark.parametrize("clause", CLAIMS)
def test_the_outcome_is_that_of_the_statements(findings, clause):
    finding = findings[clause]
    assert finding["outcome"] == outcome(finding["statements"])
    assert finding["source"] in spec.clauses()[clause].source
    assert finding["claim"] and finding["found"] and finding["numbers"]


def test_outcome_of_statements():
    assert outcome({"a": True, "b": True}) == "reproduced"
    assert outcome({"a": False, "b": True}) == "qualified"
    assert outcome({"a": False}) == "refuted"


# ---- the numbers that the spec states -------------------------------------------------------
def test_numbers_of_the_spec(findings):
    numbers = {clause: finding["numbers"] for clause, finding in findings.items()}
    assert numbers["EXP-2"]["product, each clamped"] == pytest.approx(1.752e-36, rel=1e-3)
    assert numbers["EXP-2"]["product, sum clamped"] == pytest.approx(1.929e-22, rel=1e-3)
    assert numbers["EXP-2"]["first step at which the clamped sum differs, decay 0.99"] == 4975
    assert numbers["EXP-2"]["first step at which the clamped sum differs, decay 1e-06"] == 4
    assert numbers["EXP-3"]["first step at which the exponential is 0"] == pytest.approx(10346, abs=2)  # exp's rounding
    assert numbers["EXP-4"]["second difference of the core step"] == pytest.approx(-0.2796, abs=5e-5)
    assert numbers["EXP-5"]["combines in two sweeps"] == 65534
    assert numbers["EXP-5"]["combines, inclusive"] == 98302
    assert numbers["EXP-5"]["combines, step-efficient"] == 458753
    assert numbers["EXP-6"]["share below e^-50"] > 0.998
    assert numbers["EXP-6"]["share below e^-50, slow decays"] == 0
    assert numbers["EXP-7"]["largest gradient, 1 step from 0"]["W_g"] == 0
    assert numbers["EXP-7"]["largest gradient, 1 step from 0"]["b_g"] > 0
    assert numbers["EXP-8"]["limits"]["bfloat16"][1] == numbers["EXP-8"]["limits"]["float16"][1] == 1
    assert numbers["EXP-11"]["first step that is not finite"] == 127


def test_every_op_takes_part_in_the_long_sequences(findings):
    assert set(findings["EXP-3"]["numbers"]["budget, 8192 steps"]) == set(all_ops())


@pytest.mark.parametrize("name", all_ops())
def test_the_reference_stays_in_float32_on_single_arrays(name):
    op = all_ops()[name]
    case = long_stability.Case(name, "float32", next(iter(op.regimes)), long_stability.Sizes(1, 3, 2), 0)
    arrays = [single(array) for array in case.inputs().values()]
    assert op.reference(*arrays).dtype == np.float32
    assert {gradient.dtype for gradient in op.adjoint(*arrays, single(case.cotangent()))} == {np.dtype(np.float32)}


# ---- something else measured, something else found ------------------------------------------
def test_an_accurate_sum_of_logarithms_shows_no_difference(monkeypatch):
    def in_float64(decays):
        with np.errstate(under="ignore"):
            return np.cumprod(decays.astype(np.float64), axis=1).astype(np.float32)

    monkeypatch.setattr(max_difference, "through_logarithms", in_float64)
    assert max_difference.run("quick")["outcome"] == "refuted"


def test_a_clamp_on_the_sum_that_never_binds_is_no_clamp(monkeypatch):
    monkeypatch.setattr(clamps, "clamp_sum", lambda logs: np.cumsum(logs[0, :, 0]))
    monkeypatch.setattr(clamps, "gradient", lambda logs, sums, of_clamped_sum: np.ones(clamps.STEPS))
    assert clamps.run("quick")["outcome"] == "reproduced"


def test_a_wrong_op_is_out_of_bound_at_every_length(monkeypatch):
    row = copy.copy(all_ops()["linear_recurrence"])
    object.__setattr__(row, "reference", lambda a, b, h0: linear_recurrence(a, b, h0) * np.float32(1 + 2.0**-10))
    monkeypatch.setattr(long_stability, "all_ops", lambda: {row.name: row})
    found = long_stability.run("quick")
    assert found["outcome"] == "refuted"
    assert "linear_recurrence at 64" in found["found"]


def test_an_affine_step_needs_no_reservation(monkeypatch):
    monkeypatch.setattr(parallel_scan, "core_step", lambda h: 0.9 * h + 1)
    affine = "the core step is an affine map, as an associative scan over maps needs it"
    assert parallel_scan.run("quick")["statements"][affine]


def test_a_tree_with_more_work_grows_like_the_claim(monkeypatch):
    monkeypatch.setattr(tree_work, "blelloch", tree_work.hillis_steele)
    assert tree_work.run("quick")["outcome"] == "reproduced"


def test_a_tree_with_wrong_sums_is_refused(monkeypatch):
    monkeypatch.setattr(tree_work, "blelloch", lambda elements: (elements, Cost()))
    with pytest.raises(ArithmeticError, match="sums of"):
        tree_work.run("quick")


def test_slow_decays_leave_something_to_compare(monkeypatch):
    monkeypatch.setattr(decays_of_the_example, "example_decays",
                        lambda rng, rows: 1 - rng.random((rows, decays_of_the_example.STEPS)) / 1e6)  # fmt: skip
    assert decays_of_the_example.run("quick")["outcome"] == "reproduced"


def test_a_recurrence_without_a_gate_has_dead_parameters(monkeypatch):
    def without_gate(z, gamma, W_g, b_g, h0, g):
        return 0 * z, 0 * z, 0 * W_g, 0 * b_g, 0 * h0

    monkeypatch.setattr(dead_gate, "gated_recurrence_adjoint", without_gate)
    monkeypatch.setattr(dead_gate, "gated_recurrence", dead_gate.bypass)
    assert dead_gate.run("quick")["outcome"] == "reproduced"


def test_a_wide_format_keeps_the_clip(monkeypatch):
    monkeypatch.setattr(clip_in_narrow_formats, "FORMATS", {"float64": FLOAT64, "float16": FLOAT64})
    assert clip_in_narrow_formats.run("quick")["outcome"] == "reproduced"


def test_sums_above_zero_would_give_the_trick_something_to_do(monkeypatch):
    monkeypatch.setattr(log_sum_exp, "running_sums", lambda rows: np.linspace(0, 100, 8, dtype=np.float32)[None])
    statements = log_sum_exp.run("quick")["statements"]
    assert statements["without it something overflows, so that there is something to prevent"]


def test_one_function_under_two_names_is_found(monkeypatch):
    def linear_as_gated(z, gamma, W_g, b_g, h0):
        return linear_recurrence(gamma, z, h0)

    monkeypatch.setattr(three_recurrences, "gated_recurrence", linear_as_gated)
    found = three_recurrences.run("quick")
    assert found["outcome"] == "qualified"
    assert found["statements"]["linear and gated are one function"]


def test_a_form_that_divides_nothing_serves(monkeypatch):
    monkeypatch.setattr(divided_by_product, "divided_by_product", divided_by_product.scan_over_pairs)
    assert divided_by_product.run("quick")["outcome"] == "reproduced"
