"""One benchmark run: what was timed, what was not and why, and what is wrong with it."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from mmrec.benchmarks import thresholds
from mmrec.benchmarks.cases import Case
from mmrec.benchmarks.compilations import Compilations
from mmrec.benchmarks.compile_ahead import compile_ahead
from mmrec.benchmarks.device import Device
from mmrec.benchmarks.implementations import missing_here
from mmrec.benchmarks.judgement import Judgement
from mmrec.benchmarks.measurement import Row, baseline_of, described, row_of, too_slow
from mmrec.benchmarks.peer_check import check
from mmrec.benchmarks.peers import peer_of
from mmrec.benchmarks.work import Source, ran_out_of_memory, source_of, too_large

BUDGET_SECONDS = {"cpu": 900.0, "cuda": 420.0}  # for all cases together, the judging apart
COMPILING = {"cpu": 0.0, "cuda": 0.4}  # the share of it that may go into compiling ahead; on a CPU few cases compile


class Excused(Exception):
    """A case that cannot be timed through no fault of the implementation; the message says why."""


@dataclass
class Run:
    """Filled case by case; its rows and reasons are the timings file."""

    device: Device | None = None
    budget: float | None = None  # seconds; by the kind of device when None
    began: float | None = None
    rows: list[Row] = field(default_factory=list)
    untimed: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    spent: str = ""  # that the budget was, once a case was left out for it
    compilations: Compilations = field(default_factory=Compilations)
    compiled_late: list[tuple[Case, str, float]] = field(default_factory=list)  # where it was timed: kernel, seconds

    def seconds(self, device: Device) -> float:
        """The whole budget."""
        return BUDGET_SECONDS[device.kind] if self.budget is None else self.budget

    def compile_ahead(
        self, cases: Iterable[Case], device: Device, judged: Judgement, say: Callable[[str], None]
    ) -> None:
        """Compile what may be timed. The budget begins here."""
        self.began = time.monotonic()
        if seconds := COMPILING[device.kind] * self.seconds(device):
            compile_ahead([case for case in cases if not reason_against(case, device, judged)], device, seconds, say)
            self.compilations.listen()

    def note_compilations(self, case: Case) -> None:
        """Those since the case before were for this one."""
        self.compiled_late += [(case, kernel, seconds) for kernel, seconds in self.compilations.take()]

    def leave_out(self, case: Case, reason: str) -> None:
        self.untimed.append({**described(case), "reason": reason})

    def source(self, case: Case, device: Device, judged: Judgement) -> Source:
        """What to call; Excused, with the reason, where it cannot or may not be timed."""
        reason = reason_against(case, device, judged) or self._out_of_time(device) or too_large(case, device)
        if reason:
            raise Excused(reason)
        source = source_of(case)
        with excusing(case):
            reason = too_slow(case, source, device)
        if reason:
            raise Excused(reason)
        return source

    def _out_of_time(self, device: Device) -> str:
        budget = self.seconds(device)
        self.began = time.monotonic() if self.began is None else self.began
        if time.monotonic() - self.began <= budget:
            return ""
        self.spent = f"the run's {budget:g} s were spent"
        return f"not timed: {self.spent} (--budget gives it more)"

    def add(
        self, case: Case, device: Device, seconds: float, judged: Judgement, host_seconds: float | None = None
    ) -> Row:
        row = row_of(case, device, seconds, baseline_of(case, self.rows)) | {"host_seconds": host_seconds}
        if case.peer:
            with excusing(case):
                held = check(peer_of(case), case.dtype, case.direction, case.regime, device.kind)
            row |= {"judged": f"held against the bound in {held.where}", "budget": held.budget, "wrong": held.wrong}
        else:
            source = judged.sources.get((case.implementation, case.op, case.dtype), "")
            row |= {"judged": source, "budget": None, "wrong": False}
        self.rows.append(row)
        return row

    def conclude(self, check_thresholds: bool) -> None:
        """A budget that sufficed for nothing and impossible speeds are problems of every run, missed thresholds of one that
        checks them."""
        if self.spent and not self.rows:
            self.problems.append(f"nothing was timed: {self.spent} before the first case")
        self.problems += [f"suspicious: {line}" for line in thresholds.suspicious(self.rows)]
        if check_thresholds and self.device is not None:
            expected = thresholds.read().get(self.device.kind, {})
            missed = thresholds.misses(self.rows, self.untimed, expected)
            self.problems += [f"threshold missed: {line}" for line in missed]


def reason_against(case: Case, device: Device, judged: Judgement) -> str:
    """Why a case may not be timed here at all, or ""."""
    if case.peer:
        return peer_of(case).missing_here()
    key = case.implementation, case.op, case.dtype
    return missing_here(case.implementation, device.kind) or judged.reason_against(key)


@contextmanager
def excusing(case: Case) -> Iterator[None]:
    """Memory that runs out, and whatever a peer raises, is a reason and not an error of the run."""
    try:
        yield
    except Excused:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:160]
        if ran_out_of_memory(f"{type(error).__name__}: {error}"):
            raise Excused(f"not timed: {case.implementation}, {case.group} ran out of memory: {said}") from error
        if case.peer:
            raise Excused(f"not timed: {case.implementation} ({case.layout}), {case.group} raised "
                          f"{type(error).__name__}: {said}") from error  # fmt: skip
        raise
