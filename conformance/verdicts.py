"""The closed list of verdicts, and a finding: one comparison with everything needed to understand it."""

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """What a check concluded. Nothing else exists; skipped is not passed."""

    CONFORMS = "CONFORMS"
    OUT_OF_BOUND = "OUT_OF_BOUND"
    NOT_FINITE = "NOT_FINITE"
    WRONG_SHAPE = "WRONG_SHAPE"
    WRONG_DTYPE = "WRONG_DTYPE"
    INPUT_MUTATED = "INPUT_MUTATED"
    NOT_REPRODUCIBLE = "NOT_REPRODUCIBLE"
    RAISED = "RAISED"
    CRASHED = "CRASHED"
    TIMED_OUT = "TIMED_OUT"
    WAIVED = "WAIVED"
    NOT_IMPLEMENTED = "NOT_IMPLEMENTED"


FATAL = (Verdict.CRASHED, Verdict.TIMED_OUT)


@dataclass
class Finding:
    """One answer compared with what the spec demands of it."""

    verdict: Verdict
    budget: float = 0.0  # largest |output - exact| / tolerance; infinite where no tolerance could excuse it
    where: str = ""  # which output and element: "result[0, 17, 2]"
    got: float | None = None
    expected: float | None = None
    tolerance: float | None = None
    case: str = ""  # the case that replays it
    message: str = ""
    error: float = 0.0  # largest |output - exact| relative to the largest |exact|
    allowed: float = 0.0  # the tolerance there, on the same scale
    steps: int = 0  # T, for the error-against-T picture

    @property
    def conforms(self) -> bool:
        return self.verdict is Verdict.CONFORMS


@dataclass
class Record:
    """What one check concluded about one clause's op, dtype and subject: a row of the result file."""

    check: str
    clauses: list[str]
    subject: str
    op: str
    dtype: str
    verdict: Verdict = Verdict.CONFORMS
    budget: float = 0.0
    examples: int = 0
    seconds: float = 0.0
    worst: dict[str, Any] = field(default_factory=dict)  # the Finding with the largest budget, or the failing one
    series: dict[str, dict[str, float]] = field(default_factory=dict)  # by T: error, allowed, budget
    replay: str = ""
    about: dict[str, Any] = field(default_factory=dict)  # the subject: framework, environment, what it declares
    left_out: str = ""  # why no verdict was reached; such a record is neither a pass nor a failure

    def add(self, finding: Finding) -> None:
        """Count a finding; the worst one stays, and a failure is worse than any budget."""
        self.examples += 1
        if finding.steps:
            at_length = self.series.setdefault(str(finding.steps), {"error": 0.0, "allowed": 0.0, "budget": 0.0})
            for name in at_length:
                at_length[name] = max(at_length[name], getattr(finding, name))
        if self.verdict is Verdict.CONFORMS and (not finding.conforms or finding.budget >= self.budget):
            self.verdict, self.budget, self.worst = finding.verdict, finding.budget, asdict(finding)

    def replace_by(self, finding: Finding) -> None:
        """Let the minimal failing case stand for the check."""
        self.verdict, self.budget, self.worst = finding.verdict, finding.budget, asdict(finding)
