"""Is a slowdown told from noise, and does the page say all there is to say?"""

import io
import itertools
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from mmrec.conformance.gate import noise
from mmrec.conformance.gate.children import Located
from mmrec.conformance.gate.figures import Row
from mmrec.conformance.gate.findings import Findings
from mmrec.conformance.gate.judged import verdict_of
from mmrec.conformance.gate.page import PIPE_WIDTH, print_page, write_markdown
from mmrec.conformance.gate.race import NOISE, TURNS, Ratio, interval, race, take_turns
from mmrec.conformance.gate.revisions import Change
from mmrec.conformance.gate.sections import sections
from mmrec.conformance.gate.touched import Touched


def timings(seconds, spread, seed):
    noise = np.random.default_rng(seed).lognormal(0.0, spread, (TURNS, 2))
    return [tuple(turn) for turn in seconds * noise]


def test_the_interval_holds_the_true_ratio_about_as_often_as_it_says():
    held = 0
    for seed in range(100):
        low, high = interval(timings(1.0, 0.1, seed), timings(1.3, 0.1, 1000 + seed))
        held += low <= 1.3 <= high
    assert held >= 85  # of 95 expected: fewer has a chance of about one in ten thousand


def test_a_slowdown_beyond_noise_fails_and_one_within_passes():
    def ratio(low, high):
        return Ratio("triton", "scan", "GPU", "cuda", 1.0, (low + high) / 2, low, high)

    edge = NOISE["cuda"]
    assert ratio(edge + 0.01, 1.3).verdict == "SLOWER" and ratio(edge - 0.01, 1.3).verdict == "within noise"
    assert ratio(0.7, 0.8).verdict == "faster"


def test_revisions_take_turns_so_that_a_drift_touches_both():
    clock = itertools.count(1.0)  # every timing takes longer than the one before

    class Drifting:
        def ask(self, calls):
            return next(clock)

    before, now = take_turns(Drifting(), Drifting(), calls=3, turns=5)
    assert before[0] == (1.0, 4.0) and now[0] == (2.0, 3.0)
    assert np.median(before) == np.median(now)


MINE = ("mine", "mine"), "mine", ["linear_recurrence"], 60.0
TIMER = """
import itertools, json, sys
print(json.dumps({"kind": "cpu", "device": "cpu", "reason": ""}), flush=True)
noise = itertools.cycle([1.0, 1.02, 0.99, 1.01, 0.98])
for line in sys.stdin:
    question = json.loads(line)
    if "plan" in question:
        print(json.dumps([{"title": "scan"}]), flush=True)
    elif "prepare" in question:
        print(json.dumps({"calls": 1, "seconds": 0.001}), flush=True)
    elif SECONDS:
        print(SECONDS * next(noise), flush=True)
    else:
        raise SystemExit(3)
"""


class Timer:
    """A revision whose processes, one after the other, take so long; one that takes no time at all dies of it."""

    tree = SimpleNamespace(root=".")

    def __init__(self, *seconds):
        self.seconds = itertools.chain(seconds, itertools.repeat(seconds[-1]))

    def command(self, module, subject):
        return [sys.executable, "-c", f"SECONDS = {next(self.seconds)}\n{TIMER}"]

    def environment(self):
        return dict(os.environ)


def test_a_slower_revision_is_found_out_by_a_race():
    (ratio,) = race(Timer(1.3), Timer(1.0), *MINE)
    assert ratio.verdict == "SLOWER" and ratio.low <= 1.3 <= ratio.high


def test_a_process_that_was_slow_by_itself_is_no_slowdown():
    (ratio,) = race(Timer(1.3, 1.0), Timer(1.0), *MINE)
    assert ratio.verdict == "within noise"


def test_a_revision_that_dies_is_not_timed_and_the_reason_is_given():
    (reason,) = race(Timer(0), Timer(1.0), *MINE)
    assert reason == "mine, scan: not timed: the process of a revision ended with exit code 3"


def test_what_the_time_does_not_reach_is_counted_and_the_rest_named_while_it_is_timed():
    said = []
    (reason,) = race(Timer(1.0), Timer(1.0), *MINE[:3], -1.0, said.append)
    assert reason.startswith("mine: 1 of 1 cases not timed: its -1 s were spent") and reason.endswith("from scan on")
    assert said == []

    assert len(list(race(Timer(1.0), Timer(1.0), *MINE, said.append))) == 1
    assert said == ["timing mine: 1 of 1, scan"]


def record(verdict="CONFORMS", **changes):
    return {"check": "every_value", "clauses": ["MDI-1"], "op": "linear_recurrence", "dtype": "float32",
            "verdict": verdict, "budget": 0.5, "examples": 3, "left_out": "", "replay": "mmrec verify x --replay y",
            "worst": {"message": "is 1, exact 2"}, **changes}  # fmt: skip


@pytest.fixture
def findings():
    found = Findings(Change("main", "0123456789abcdef", ("README.md", "scan.py")), everything=False)
    found.touched = [Touched(Located("k.py", "k.py"), "mine", "torch", by_code=["linear_recurrence"],
                             because={"scan.py": {"linear_recurrence"}})]  # fmt: skip
    return found


def drawn(findings, tmp_path):
    console = Console(width=PIPE_WIDTH, record=True, file=io.StringIO())
    print_page(sections(findings), console)
    write_markdown(sections(findings), tmp_path / "page.md")
    return console.export_text(), (tmp_path / "page.md").read_text()


def test_a_page_without_failures_passes(findings, tmp_path):
    findings.verdicts = [verdict_of("mine", "linear_recurrence", [record(), record(left_out="too long")], "", ())]
    text, markdown = drawn(findings, tmp_path)
    assert not list(findings.failures())
    assert "PASS" in text and "1 of 1" in text and "reach nothing that computes: README.md" in text
    assert markdown.index("PASS") < markdown.index("scan.py")


def test_every_kind_of_failure_is_named_on_the_page(findings, tmp_path):
    findings.verdicts = [verdict_of("mine", "linear_recurrence", [record("OUT_OF_BOUND", budget="inf")], "", ())]
    heavy = {
        "registers": 9,
        "spills": 3,
        "stack": 0,
        "shared": 0,
        "instructions": 9,
        "per_turn": 0.0,
        "resident": 4,
        "warps": 4,
    }
    findings.rows = [Row("scan.py", "scan fp32", "sm_90", {**heavy, "spills": 0}, heavy, "stored")]
    findings.ratios = [Ratio("mine", "linear_recurrence forward", "cpu", "cpu", 1.0, 1.6, 1.5, 1.7)]
    for page in drawn(findings, tmp_path):
        assert "FAIL: conformance, kernels, speed" in page
        assert "0 of 1 intervals hold 1; they begin at 1.500" in page
        for reason in ("is 1, exact 2", "0 -\\> 3 spill" if "##" in page else "0 -> 3 spill", "1.60 x the base's time"):
            assert reason in page


def test_nothing_judged_is_no_pass():
    assert not verdict_of("mine", "decay_gate", [], "", ()).conforms
    assert verdict_of("mine", "decay_gate", [record()], "the judge ended with exit code 1", ()).failures


def test_noise_races_the_tree_against_itself_and_shows_what_it_could_not(monkeypatch, tmp_path, capsys):
    raced = []

    def time_subjects(call, now, before, findings, say):
        raced.append((now, before))
        findings.ratios.append(Ratio("mine", "scan", "GPU", "cuda", 1.0, 1.1, 0.9, 1.2))
        findings.notes.append("torch: not timed: no reason")

    monkeypatch.setattr(noise, "touched_subjects", lambda call, changed, now, before, findings: [])
    monkeypatch.setattr(noise, "time_subjects", time_subjects)

    assert noise.main(["--markdown", str(tmp_path / "page.md")]) == 0
    assert raced[0][0] is raced[0][1]
    for page in (capsys.readouterr().out, (tmp_path / "page.md").read_text()):
        assert "0.90 .. 1.20" in page and "1 of 1 intervals hold 1" in page and "torch: not timed: no reason" in page

    monkeypatch.chdir(tmp_path)
    assert noise.main([]) == 2
    assert "is not in a git repository" in capsys.readouterr().err
