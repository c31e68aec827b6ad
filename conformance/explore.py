"""Search a regime for a failing case, shrink it, and keep count: Hypothesis behind one function."""

import zlib
from collections.abc import Callable, Iterable

import hypothesis
from hypothesis import HealthCheck, Phase, settings

from mmrec.conformance.cases import SHAPES, Case, cases
from mmrec.conformance.judge import Trial
from mmrec.conformance.ops import Sizes
from mmrec.conformance.verdicts import FATAL, Finding, Record

PHASES = (Phase.generate, Phase.target, Phase.shrink)

Examine = Callable[[Case], Iterable[Finding]]


class SubjectDied(BaseException):
    """The subject crashed or hung. Not an Exception: Hypothesis must neither catch it nor try the case again."""

    def __init__(self, finding: Finding):
        super().__init__(finding.message)
        self.finding = finding


class _Failed(Exception):
    """The case under examination does not conform; Hypothesis shrinks it."""


def explore(
    trial: Trial, record: Record, examine: Examine, regimes: Iterable[str], *, examples: int, seed: int,
    shapes: tuple[Sizes, ...] = SHAPES,
) -> None:  # fmt: skip
    """Examine ``examples`` cases of each regime; on a failure leave its minimal case in the record and stop."""
    for regime in regimes:
        failure = _search(trial, record, examine, regime, examples, seed, shapes)
        if failure is not None:
            record.replace_by(failure)
            return


def _search(
    trial: Trial, record: Record, examine: Examine, regime: str, examples: int, seed: int, shapes: tuple[Sizes, ...]
) -> Finding | None:
    """The finding of the smallest failing case Hypothesis found, or None."""
    failures: list[Finding] = []

    def tried(case: Case) -> None:
        largest = 0.0
        for finding in examine(case):
            if not failures:  # what is tried while shrinking is not counted as an example
                record.add(finding)
            if finding.verdict in FATAL:
                raise SubjectDied(finding)
            if not finding.conforms:
                failures.append(finding)
                raise _Failed(finding.message)
            largest = max(largest, finding.budget)
        hypothesis.target(min(largest, 1.0), label="share of the error budget")

    drawn = cases(trial.op, trial.dtype, regime, shapes)
    how = settings(max_examples=examples, database=None, deadline=None, print_blob=False, report_multiple_bugs=False,
                   suppress_health_check=list(HealthCheck), phases=PHASES)  # fmt: skip

    @hypothesis.seed(zlib.crc32(f"{seed}/{record.check}/{record.op}/{record.dtype}/{regime}".encode()))
    @how
    @hypothesis.given(drawn)
    def search(case: Case) -> None:  # short, since Hypothesis reads its source for every search
        tried(case)

    try:
        search()
    except SubjectDied as died:
        return died.finding
    except (_Failed, hypothesis.errors.Flaky):
        return failures[-1]  # Hypothesis runs the minimal case last
    return None
