"""Does the audit tell a wrong kernel from a correct one, and does it fail when it cannot?"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

from mmrec.conformance import audit
from mmrec.conformance.bench import Outcome, audit_variant, checks_of
from mmrec.conformance.mutants import Variant, all_variants
from mmrec.conformance.ops import all_ops


def variant_named(op: str, name: str) -> Variant:
    return next(variant for variant in all_variants()[op] if variant.name == name)


def test_every_op_has_its_variants():
    assert list(all_variants()) == list(all_ops())


@pytest.mark.parametrize("op", all_ops())
def test_an_op_has_ten_wrong_variants_and_three_correct_ones(op):
    correct = [variant.correct for variant in all_variants()[op]]
    assert correct.count(False) >= 10
    assert correct.count(True) >= 3


@pytest.mark.parametrize("op", all_ops())
def test_variants_are_well_described(op):
    variants = all_variants()[op]
    names = [variant.name for variant in variants]
    assert len(set(names)) == len(names)
    known = {"", *(check.name for check in checks_of(op))}
    for variant in variants:
        assert variant.why, variant.name
        assert variant.caught_by in known, f"{variant.name} is aimed at {variant.caught_by!r}, which no check is called"


def test_a_correct_variant_is_accepted():
    outcome = audit_variant("linear_recurrence", variant_named("linear_recurrence", "up_and_down"), "quick", seed=0)
    assert not outcome.rejected, outcome.message
    assert outcome.as_expected
    assert 0 < outcome.budget <= 1


def test_a_wrong_variant_is_rejected_by_the_check_it_is_aimed_at():
    outcome = audit_variant("linear_recurrence", variant_named("linear_recurrence", "mask_by_product"), "quick", seed=0)
    assert outcome.rejected and outcome.as_expected
    assert (outcome.check, outcome.clauses, outcome.verdict) == ("the_future_is_not_felt", "CONV-12", "NOT_FINITE")
    assert outcome.case.startswith("linear_recurrence/float32/")


def test_a_wrong_gradient_is_rejected_though_its_values_conform():
    outcome = audit_variant("decay_product", variant_named("decay_product", "initial_half_felt"), "quick", seed=0)
    assert (outcome.rejected, outcome.check) == (True, "every_gradient_is_within_its_bound")


def run_main(monkeypatch: pytest.MonkeyPatch, folder: Path, outcomes: list[Outcome]) -> tuple[int, dict]:
    """Exit code and document of an audit with these outcomes."""
    monkeypatch.setattr(audit, "audit_all", lambda *chosen: iter(outcomes))
    result = folder / "audit.json"
    monkeypatch.setattr(sys, "argv", ["audit", "--op", "linear_recurrence", "--result", str(result)])
    with pytest.raises(SystemExit) as left:
        audit.main()
    return left.value.code, json.loads(result.read_text())


KILLED = Outcome("linear_recurrence", "stale_row", False, "a stale row", 0, rejected=True, examples=7,
                 verdict="OUT_OF_BOUND", check="every_value_is_within_its_bound", clauses="MDI-1")  # fmt: skip
ACCEPTED = Outcome("linear_recurrence", "sequential", True, "in order", 0, examples=40, budget=0.5)


def test_the_audit_succeeds_when_every_variant_is_judged_rightly(monkeypatch, tmp_path):
    code, document = run_main(monkeypatch, tmp_path, [KILLED, ACCEPTED])
    assert code == 0
    counts = document["ops"]["linear_recurrence"]
    assert (counts["killed"], counts["accepted"], counts["slowest"]) == (1, 1, "stale_row")


def test_the_audit_fails_when_a_wrong_variant_survives(monkeypatch, tmp_path, capsys):
    survivor = Outcome("linear_recurrence", "delayed", False, "one step late", 0, examples=40)
    assert run_main(monkeypatch, tmp_path, [KILLED, ACCEPTED, survivor])[0] == 1
    assert "delayed, seed 0: wrong, but SURVIVED" in capsys.readouterr().out


def test_the_audit_fails_when_a_correct_variant_is_rejected(monkeypatch, tmp_path, capsys):
    rejected = Outcome("linear_recurrence", "fused", True, "fused", 3, rejected=True, clauses="MDI-1", check="a_check",
                       message="too far off")  # fmt: skip
    assert run_main(monkeypatch, tmp_path, [KILLED, ACCEPTED, rejected])[0] == 1
    printed = capsys.readouterr().out
    assert "fused, seed 3: correct, but REJECTED" in printed
    assert "too far off" in printed


def test_progress_is_told_seed_by_seed(monkeypatch, tmp_path, capsys):
    """What a later seed finds is said when that seed is through, not after the last one."""
    rejected = replace(ACCEPTED, seed=1, rejected=True, message="too far off")
    told = []

    def seed_by_seed(*chosen):
        yield from (KILLED, ACCEPTED)
        yield from (replace(KILLED, seed=1), rejected)
        yield replace(KILLED, seed=2)
        told.append(capsys.readouterr().out)
        yield replace(ACCEPTED, seed=2)

    monkeypatch.setattr(audit, "audit_all", seed_by_seed)
    monkeypatch.setattr(
        sys, "argv", ["audit", "--op", "linear_recurrence", "--seeds", "3", "--result", str(tmp_path / "audit.json")]
    )
    with pytest.raises(SystemExit):
        audit.main()
    (before_the_last,) = told
    assert "seed 0: 1 of 1 wrong killed, 1 of 1 correct accepted, largest budget 50 %" in before_the_last
    assert "seed 1: 1 of 1 wrong killed, 0 of 1 correct accepted" in before_the_last
    assert "sequential, seed 1: correct, but REJECTED" in before_the_last
    assert "seed 2: 1 of 1 wrong killed, 1 of 1 correct accepted" in capsys.readouterr().out


def test_a_check_that_rejects_nothing_is_named():
    unused = audit.checks_that_rejected_nothing(["linear_recurrence"], [KILLED, ACCEPTED])
    assert "every_gradient_is_within_its_bound" in unused
    assert KILLED.check not in unused
