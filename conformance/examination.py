"""One test's view of one subject, op and dtype: ask, explore, conclude."""

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from mmrec.conformance.cases import EDGE_SHAPES, FEWEST_STEPS, QUICK_SHAPES, SHAPES, Case
from mmrec.conformance.explore import Examine, explore
from mmrec.conformance.judge import Trial
from mmrec.conformance.ops import Property, Sizes, all_ops
from mmrec.conformance.subjects import source_of
from mmrec.conformance.verdicts import FATAL, Finding, Record, Verdict
from mmrec.conformance.worker import Answer, Profile, Request


@dataclass(frozen=True)
class Effort:
    """How hard a profile looks: examples a regime (Hypothesis' first is the simplest there is), and from which shapes.

    Frameworks that compile do so once a shape and dtype. So float32 sees every shape, and the other formats, which
    share its code paths, and the properties a few of them; the full profile sees all in all. An interpreter takes
    time for every step: short sequences in all of these, and no call a second time but where that is the question.
    """

    values: int
    gradients: int
    properties: int
    shapes: tuple[Sizes, ...]
    few_shapes: tuple[Sizes, ...]
    fewest_shapes: tuple[Sizes, ...]  # of properties in the other formats
    interpreted_shapes: tuple[Sizes, ...]  # of an interpreter in float32; few steps in all else

    def shapes_for(self, dtype: str, a_property: bool, interpreted: bool) -> tuple[Sizes, ...]:
        plain = dtype == "float32" and not a_property
        if interpreted:
            return self.interpreted_shapes if plain else FEWEST_STEPS
        few = self.fewest_shapes if a_property and dtype != "float32" else self.few_shapes
        return self.shapes if plain else few


INTERPRETED_SHAPES = tuple(sizes for sizes in SHAPES if sizes.T <= 65)
EFFORTS = {
    "quick": Effort(3, 2, 1, QUICK_SHAPES, EDGE_SHAPES[:2], EDGE_SHAPES[:2], FEWEST_STEPS),
    "gate": Effort(5, 3, 2, SHAPES, EDGE_SHAPES, EDGE_SHAPES[:3], INTERPRETED_SHAPES),
    "full": Effort(20, 12, 6, SHAPES, SHAPES, SHAPES, INTERPRETED_SHAPES),
}


class Examination:
    """Bound to one test; its record goes to the result file whatever happens."""

    def __init__(self, session: Any, node: pytest.Item, given: str, op: str, dtype: str, part: Property | None):
        self.session, self.given = session, given
        self.op, self.dtype, self.part = all_ops()[op], dtype, part
        self.began = time.perf_counter()
        self.effort = EFFORTS[session.config.option.mmrec_profile]
        self.worker = session.worker(given)
        self.profile: Profile = self.worker.profile
        check = part.name if part else node.function.__name__.removeprefix("test_")  # type: ignore[attr-defined]
        about = {"given": given, "source": source_of(given), "framework": self.profile.framework,
                 "environment": self.profile.environment, "declares": self.profile.declares,
                 "interpreted": self.profile.interpreted}  # fmt: skip
        self.record = Record(check, [], self.profile.name, op, dtype, about=about)
        declares, twice = self.profile.declares.get(op, {}), not self.profile.interpreted
        self.trial = Trial(self.send, self.op, dtype, declares, twice)

    # ---- asking -------------------------------------------------------------------------
    def send(self, request: Request) -> Answer:
        """Ask the subject, unless it already crashed or hung on this op."""
        known = self.session.dead.get((self.given, self.op.name))
        if known is not None:
            return known
        answer = self.worker.ask(request)
        if answer.failure in FATAL:
            self.session.dead[self.given, self.op.name] = answer
        return answer

    def demand(self, *clauses: str, gradients: bool = False) -> None:
        """Name the clauses this test shows; end here, with NOT_IMPLEMENTED on record, when there is nothing to call."""
        self.record.clauses = list(clauses)
        if self.op.name not in self.profile.ops:
            self.conclude_early(Verdict.NOT_IMPLEMENTED, "the subject has no such op")
        if gradients and not self.profile.differentiable:
            self.conclude_early(Verdict.NOT_IMPLEMENTED, f"{self.profile.framework} subjects are judged forward only")

    def conclude_early(self, verdict: Verdict, message: str) -> None:
        """Put a verdict on record that no example gave, and skip the rest of the test."""
        self.record.replace_by(Finding(verdict, message=message))
        pytest.skip(message)

    def leave_out(self, reason: str) -> None:
        """Skip the test without a verdict: the result file says for what reason, and the clause stays unshown here."""
        self.record.left_out = reason
        pytest.skip(reason)

    # ---- exploring ----------------------------------------------------------------------
    def explore(self, examine: Examine, examples: int, regimes: Collection[str] = ()) -> None:
        """Draw cases of every regime and examine each; or the one case given for replay."""
        replay = self.session.config.option.mmrec_replay
        if replay:
            case = Case.parse(replay)
            if case.regime not in (regimes or self.op.regimes):
                self.leave_out(f"not said of the regime {case.regime}")
            self.examine(examine, [case])
            return
        shapes = self.effort.shapes_for(self.dtype, self.part is not None, self.profile.interpreted)
        explore(self.trial, self.record, examine, regimes or self.op.regimes, examples=examples,
                seed=self.session.config.option.mmrec_seed, shapes=shapes)  # fmt: skip

    def examine(self, examine: Examine, cases: Iterable[Case]) -> None:
        """Examine given cases, in order, up to the first that fails."""
        for case in cases:
            for finding in examine(case):
                self.record.add(finding)
                if not finding.conforms:
                    return

    def conclude(self) -> None:
        """Fail the test unless every finding conformed; a test that examined nothing has shown nothing."""
        record = self.record
        assert record.examples > 0, f"{record.check}: no example was examined"
        if record.verdict is not Verdict.CONFORMS:
            record.replay = (
                f"mmrec verify {self.given} --replay '{record.worst['case']}'" if record.worst["case"] else ""
            )
            pytest.fail(describe_failure(record), pytrace=False)


def describe_failure(record: Record) -> str:
    """What a kernel's author needs: clause, op, subject, dtype, element, both values, budget, case, replay."""
    worst = record.worst
    lines = [f"{record.verdict}  {', '.join(record.clauses)}: {record.check.replace('_', ' ')}",
             f"  subject  {record.subject}, {record.op}, {record.dtype}",
             f"  what     {worst['message']}"]  # fmt: skip
    if worst["tolerance"] is not None:
        lines.append(f"  element  {worst['where']}: got {worst['got']:.9g}, exact {worst['expected']:.9g}, "
                     f"tolerance {worst['tolerance']:.3g}, budget used {worst['budget']:.3g}")  # fmt: skip
    if worst["case"]:
        lines.append(f"  minimal  {worst['case']}")
    if record.replay:
        lines.append(f"  replay   {record.replay}")
    return "\n".join(lines)
