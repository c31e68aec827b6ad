"""Is what cannot be timed a line with its reason, and does a slow or a large case not eat the run?"""

from types import SimpleNamespace

import pytest

from mmrec.benchmarks import conftest, measurement, run, work
from mmrec.benchmarks.cases import Case, Lengths
from mmrec.benchmarks.device import Device
from mmrec.benchmarks.document import document_of
from mmrec.benchmarks.judgement import Judgement
from mmrec.benchmarks.peers import PEERS, case_of
from mmrec.benchmarks.run import Excused, Run, excusing
from mmrec.benchmarks.work import Source
from mmrec.conformance import timings

GPU = Device("cuda", "a GPU", "a GPU", 2**26, 4e12, {"float32": 5e13, "bfloat16": 8e14})
CASE = Case("linear_recurrence", "torch", "torch", "forward", Lengths(1, 1024, 64), "float32")
LOOP = Case("gated_recurrence", "torch", "torch", "forward", Lengths(1, 32768, 4096), "bfloat16", "decay0.9")
PEER = case_of(next(peer for peer in PEERS if peer.name == "torch.cumprod"), "forward", Lengths(1, 8, 2), "float32")
KEY = ("torch", "linear_recurrence", "float32")
PASSED = Judgement({KEY: ""}, {KEY: "judged in result.json"})


@pytest.fixture(autouse=True)
def free(monkeypatch):
    memory = SimpleNamespace(free=10**12)
    monkeypatch.setattr(work, "free_bytes", lambda device: memory.free)
    monkeypatch.setattr(run, "missing_here", lambda name, kind: "")
    return memory


def test_what_passed_is_timed():
    assert Run().source(CASE, GPU, PASSED).function is work.source_of(CASE).function


def test_what_the_judge_rejected_is_not():
    rejected = Judgement({KEY: "OUT_OF_BOUND in every value (MDI-1)"}, {KEY: "judged in result.json"})

    with pytest.raises(Excused, match="does not conform: OUT_OF_BOUND"):
        Run().source(CASE, GPU, rejected)


def test_what_does_not_fit_is_left_out_with_both_numbers(free):
    free.free = 10**6

    with pytest.raises(Excused, match=r"needs at least 0\.00131 GB of memory, 0\.001 GB are free"):
        Run().source(CASE, GPU, PASSED)


def test_a_spent_budget_leaves_out_the_rest():
    spent = Run(budget=60.0, began=-1e9)

    with pytest.raises(Excused, match="the run's 60 s were spent"):
        spent.source(CASE, GPU, PASSED)


def test_a_budget_that_is_spent_before_anything_is_timed_is_a_problem():
    spent, enough = Run(budget=60.0, began=-1e9), Run(budget=60.0, began=-1e9)
    for one in (spent, enough):
        if one is enough:
            one.add(CASE, GPU, 1e-3, PASSED)
        with pytest.raises(Excused):
            one.source(CASE, GPU, PASSED)
        one.conclude(check_thresholds=False)

    assert spent.problems == ["nothing was timed: the run's 60 s were spent before the first case"]
    assert enough.problems == []


@pytest.mark.parametrize("budget", [-1.0, float("nan")])
def test_a_budget_that_is_no_time_is_refused(budget):
    with pytest.raises(pytest.UsageError, match=r"--budget: .* is not a number of seconds"):
        conftest.pytest_configure(SimpleNamespace(option=SimpleNamespace(mmrec_budget=budget)))


def test_a_long_loop_is_timed_over_a_few_steps_first(monkeypatch):
    asked, now = [], [0.0]

    def prepared(source, case, device):
        asked.append(case.lengths.T)
        return lambda: now.__setitem__(0, now[0] + source.function(case.lengths.T))

    monkeypatch.setattr(measurement, "prepare", prepared)
    monkeypatch.setattr(measurement, "clock_of", lambda framework, kind: lambda: now[0])

    slow = measurement.too_slow(LOOP, Source(lambda steps: 1e-4 * steps), GPU)
    fast = measurement.too_slow(LOOP, Source(lambda steps: 1e-5 * steps), GPU)
    parallel = measurement.too_slow(LOOP, Source(lambda steps: 0.03 + 1e-6 * steps), GPU)

    assert "would take about 3.3 s, by what its 512 and 1024 first steps take; a call may take 1 s" in slow
    assert fast == parallel == ""
    assert asked == [512, 1024, 512, 512, 1024]
    assert measurement.too_slow(CASE, Source(lambda steps: 1e9), GPU) == "", "a scan is no loop over its steps"


class OutOfMemoryError(RuntimeError):
    pass


def test_memory_that_runs_out_is_a_reason_for_everyone():
    for error in (OutOfMemoryError("tried to allocate"), RuntimeError("RESOURCE_EXHAUSTED: out of memory")):
        with pytest.raises(Excused, match="ran out of memory"), excusing(CASE):
            raise error


def test_another_error_of_ours_is_an_error_and_of_a_peer_a_reason():
    with pytest.raises(ZeroDivisionError), excusing(CASE):
        raise ZeroDivisionError("no")
    with pytest.raises(Excused, match=r"torch.cumprod \(BTD\), .* raised ZeroDivisionError: no"), excusing(PEER):
        raise ZeroDivisionError("no")


def test_rows_and_reasons_are_the_timings_file(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "check", lambda *case: SimpleNamespace(budget=float("inf"), where="result[0]", wrong=True))
    one = Run(GPU)
    ours, peer = one.add(CASE, GPU, 1e-3, PASSED), one.add(PEER, GPU, 1e-9, PASSED)
    one.leave_out(LOOP, "too slow")
    one.conclude(check_thresholds=False)

    timings.save(document_of(one), tmp_path / "benchmarks.json")
    read = timings.read(tmp_path / "benchmarks.json")

    assert ours["judged"] == "judged in result.json" and not ours["wrong"] and ours["ratio"] is None
    assert peer["wrong"] and read["rows"][1]["budget"] == "inf"
    assert [row["reason"] for row in read["untimed"]] == ["too slow"]
    assert read["problems"] == [], "what fits into the cache may be faster than a copy"


def test_an_impossible_speed_is_a_problem_of_the_run():
    one = Run(GPU)
    one.add(
        Case("linear_recurrence", "torch", "torch", "forward", Lengths(8, 32768, 1024), "float32"), GPU, 1e-4, PASSED
    )

    one.conclude(check_thresholds=False)

    assert len(one.problems) == 1 and one.problems[0].startswith("suspicious: linear_recurrence forward torch")
