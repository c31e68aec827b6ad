"""Is only that timed which the judge passed, on this device?"""

import json

import pytest

from mmrec.benchmarks import judgement
from mmrec.benchmarks.judgement import PASSED, Refused, verdicts
from mmrec.conformance.subjects import source_of

CLAUSES = ["SCAN-2"]


def document(*records, device="cpu", source=None):
    source = source_of("torch") if source is None else source
    return {
        "subjects": {"torch": {"framework": "torch", "source": source, "environment": {"device": device}}},
        "records": [
            {"check": f"{check}_is_within_its_bound", "clauses": CLAUSES, "subject": "torch", "op": "decay_product",
             "dtype": "float32", "verdict": "CONFORMS", "left_out": "", **record}
            for record in records for check in ("every_value", "every_gradient")
        ],
    }  # fmt: skip


KEY = ("torch", "decay_product", "float32")


def test_what_conforms_may_be_timed():
    assert verdicts(document({}, {"verdict": "WAIVED"}), {"cpu"}) == {KEY: PASSED}


def test_one_record_that_does_not_conform_is_enough_to_refuse():
    found = verdicts(document({}, {"verdict": "OUT_OF_BOUND"}, {}), {"cpu"})

    assert found == {KEY: "OUT_OF_BOUND in every value is within its bound (SCAN-2)"}


@pytest.mark.parametrize(
    "check", ["every_value_is_within_its_bound", "bad_input_is_refused_by_the_name_of_the_argument"]
)
def test_a_run_of_some_checks_is_no_pass_but_may_fail(check):
    assert verdicts(document({"check": check}), {"cpu"}) == {}
    assert verdicts(document({"check": check, "verdict": "RAISED"}), {"cpu"})[KEY].startswith("RAISED in")


def test_a_replayed_case_is_no_pass_but_may_fail():
    replayed = {"replay": "decay_product/float32/uniform/B1-T1-D1/seed0/contiguous"}
    assert verdicts(document({}) | replayed, {"cpu"}) == {}
    assert verdicts(document({"verdict": "OUT_OF_BOUND"}) | replayed, {"cpu"}) != {}


def test_dtypes_are_judged_apart():
    found = verdicts(document({"dtype": "bfloat16", "verdict": "NOT_FINITE"}, {}), {"cpu"})

    assert found[KEY] == PASSED
    assert found["torch", "decay_product", "bfloat16"] != PASSED


@pytest.mark.parametrize("record", [{"left_out": "too long"}, {"verdict": "NOT_IMPLEMENTED"}])
def test_a_record_without_a_verdict_is_no_pass(record):
    assert verdicts(document(record), {"cpu"}) == {}


def test_a_verdict_on_other_code_is_no_pass():
    assert verdicts(document({}, source="another"), {"cpu"}) == {}


def test_a_verdict_from_another_device_is_no_pass():
    assert verdicts(document({}, device="cpu"), {"NVIDIA H200"}) == {}


def test_a_failure_in_the_file_is_not_judged_again(monkeypatch, tmp_path):
    monkeypatch.setattr(judgement, "_read", lambda path: document({"verdict": "OUT_OF_BOUND"}))
    monkeypatch.setattr(judgement, "judge_quickly", lambda wanted: pytest.fail("judged again"))

    found = judgement.judgement([KEY], tmp_path / "result.json", {"cpu"})

    assert found.reason_against(KEY).startswith("not timed: torch decay_product float32 does not conform: OUT_OF_BOUND")


def test_what_the_file_lacks_is_judged_first_and_announced(monkeypatch):
    said, asked = [], []
    monkeypatch.setattr(judgement, "judge_quickly", lambda wanted: asked.extend(wanted) or document({}))

    found = judgement.judgement([KEY], None, {"cpu"}, said.append)

    assert asked == [KEY]
    assert "judging torch first" in said[0]
    assert found.reason_against(KEY) == ""
    assert found.sources[KEY] == "judged quickly in this run"


def test_what_nobody_judged_is_refused(monkeypatch):
    monkeypatch.setattr(judgement, "judge_quickly", lambda wanted: document())

    found = judgement.judgement([KEY], None, {"cpu"}, lambda text: None)

    assert "no verdict on torch decay_product float32" in found.reason_against(KEY)


@pytest.mark.parametrize("text", [None, "not JSON", json.dumps({"records": []})])
def test_a_file_that_cannot_be_used_is_refused_by_name(tmp_path, text):
    path = tmp_path / "result.json"
    if text is not None:
        path.write_text(text)

    with pytest.raises(Refused, match=r"result\.json"):
        judgement.judgement([KEY], path, {"cpu"})
