"""A program that times one revision's subject on request: the gate puts the same questions to two of them in turn.

    python -m mmrec.benchmarks.stopwatch SUBJECT

Questions and answers are lines of JSON. It begins by saying on what it runs, and why not if it cannot time here.

    {"plan": op}        the op's cases at this device's first sizes: every dtype and regime, both directions; of a loop
                        that would take long, its first steps
    {"prepare": case}   make the inputs, compile, warm up; answers how many calls make one timing, and seconds a call
    {"calls": n}        seconds a call, over n calls
"""

import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from mmrec.benchmarks.cases import DIRECTIONS, Case, Lengths, is_long_loop
from mmrec.benchmarks.clocks import clock_of
from mmrec.benchmarks.device import device_kind, settle, unmeasured
from mmrec.benchmarks.dialogue import answer_lines
from mmrec.benchmarks.measurement import PROBED, effort, too_slow
from mmrec.benchmarks.plans import PLANS
from mmrec.benchmarks.work import Source, calls_of, prepare
from mmrec.conformance.ops import all_ops
from mmrec.conformance.subjects import Subject, load

LONGEST_CALL = {"cpu": 1.0, "cuda": 0.15}  # seconds: a few more make no ratio surer


class Stopwatch:
    """One subject, and the case that is prepared."""

    def __init__(self, subject: Subject):
        self.subject, self.kind = subject, device_kind()
        self.device = unmeasured()
        self.clock = clock_of(subject.framework, self.kind)
        self.work: Callable[[], Any] = lambda: None

    def about(self) -> dict[str, str]:
        reason = ""
        if self.subject.framework == "numpy":
            reason = "NumPy subjects are judged, not timed"
        elif self.kind == "cpu" and "triton" in sys.modules:
            reason = "on a CPU Triton is interpreted, which says nothing about the compiled kernel"
        return {"kind": self.kind, "device": self.device.name, "reason": reason}

    def plan(self, op: str) -> list[dict[str, Any]]:
        size = PLANS[self.kind].of(all_ops()[op])[0]
        cases = [
            self.fitting(self.case(op, direction, size.lengths, dtype, regime))
            for dtype in size.dtypes
            for regime in size.regimes
            for direction in DIRECTIONS
        ]
        return [
            {**{name: getattr(case, name) for name in ("op", "direction", "dtype", "regime")},
             "lengths": asdict(case.lengths), "title": f"{op} {case.direction} {case.size} {case.dtype}"}
            for case in cases
        ]  # fmt: skip

    def case(self, op: str, direction: str, lengths: Lengths, dtype: str, regime: str) -> Case:
        return Case(op, self.subject.name, self.subject.framework, direction, lengths, dtype, regime)

    def fitting(self, case: Case) -> Case:
        """The case, with fewer steps where it is a long loop: it is called a hundred times, and its steps cost the same."""
        if not is_long_loop(case):
            return case
        source = Source(self.subject.ops[case.op])
        short = replace(case, lengths=replace(case.lengths, T=case.lengths.T // PROBED))
        if too_slow(case, source, self.device):
            return short
        self.work = next(calls_of(source, case, self.device))
        self.time(1)
        return short if self.time(1) > LONGEST_CALL[self.kind] else case

    def prepare(self, question: dict[str, Any]) -> dict[str, float]:
        self.work = lambda: None  # the inputs of the case before may go
        if question["op"] not in self.subject.ops:
            raise ValueError(f"one revision of {self.subject.name} has no {question['op']}")
        asked = {name: question[name] for name in ("op", "direction", "dtype", "regime")}
        known = self.case(**asked, lengths=Lengths(**question["lengths"]))
        self.work = prepare(Source(self.subject.ops[known.op]), known, self.device)
        calls = effort(self.work, self.clock, self.kind)["iterations"]
        return {"calls": calls, "seconds": self.time(calls)}

    def time(self, calls: int) -> float:
        begin = self.clock()
        for _ in range(calls):
            self.work()
        return (self.clock() - begin) / calls

    def answer(self, question: dict[str, Any]) -> Any:
        if "plan" in question:
            return self.plan(question["plan"])
        if "prepare" in question:
            return self.prepare(question["prepare"])
        return self.time(question["calls"])


def begin() -> tuple[Callable[[Any], Any], Any]:
    settle()
    stopwatch = Stopwatch(load(sys.argv[1]))
    return stopwatch.answer, stopwatch.about()


if __name__ == "__main__":
    answer_lines(begin)
