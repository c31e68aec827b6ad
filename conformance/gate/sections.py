"""What the gate's one page says, section by section, before it is drawn in a terminal or as Markdown."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from mmrec.conformance.gate.compiling import triton_version
from mmrec.conformance.gate.figures import SHOWN, Row
from mmrec.conformance.gate.findings import Findings
from mmrec.conformance.gate.race import CONFIDENCE, NOISE, Ratio
from mmrec.spec import clauses

MOST_FILES, MOST_REASONS = 12, 8
TITLES = {"per_turn": "per turn", "resident": "resident warps"}  # of figures, where the name is not enough


@dataclass
class Section:
    """A title, a table, and lines below it."""

    title: str
    columns: tuple[str, ...] = ()
    cells: list[tuple[str, ...]] = field(default_factory=list)
    failed: set[int] = field(default_factory=set)  # rows of the table to be marked
    lines: list[str] = field(default_factory=list)


def sections(findings: Findings) -> Iterator[Section]:
    yield changes(findings)
    if findings.verdicts:
        yield conformance(findings)
    if findings.rows:
        yield kernels(findings)
    if findings.ratios:
        yield speed(findings)
    if findings.notes:
        yield Section("not looked at", lines=findings.notes)
    yield conclusion(findings)


def changes(findings: Findings) -> Section:
    change, reached = findings.change, findings.reached
    count = f"{len(change.files)} file{'s' * (len(change.files) != 1)}"
    shown = Section(f"{count} changed since {change.given} ({change.commit[:10]})", ("file", "reaches"))
    reaching: list[tuple[str, ...]] = [(file, "; ".join(ops)) for file, ops in reached.items() if ops]
    others = [file for file, ops in reached.items() if not ops]
    shown.cells = reaching[:MOST_FILES]
    if len(reaching) > MOST_FILES:
        shown.lines.append(f"and {len(reaching) - MOST_FILES} more files")
    if findings.everything:
        shown.lines.append("everything is taken as touched (--all)")
    if others:
        what = "nothing of what can be loaded" if findings.broken else "nothing that computes"
        shown.lines.append(f"reach {what}: {shortened(others)}")
    judged = {clause for verdict in findings.verdicts for clause in verdict.clauses}
    if judged:
        shown.lines.append(f"clauses judged: {', '.join(clause for clause in clauses() if clause in judged)}")
    return shown


def conformance(findings: Findings) -> Section:
    """A line a subject, and one for each of its ops that does not conform."""
    shown = Section("conformance, profile quick", ("subject", "ops", "checks", "examples", "budget", "verdict"))
    for subject in dict.fromkeys(verdict.subject for verdict in findings.verdicts):
        of_it = [verdict for verdict in findings.verdicts if verdict.subject == subject]
        good = [verdict for verdict in of_it if verdict.conforms]
        for group, ops in [(good, shortened([verdict.op for verdict in good]))] * bool(good) + [
            ([verdict], verdict.op) for verdict in of_it if not verdict.conforms
        ]:
            passed, checks = sum(one.passed for one in group), sum(one.checks for one in group)
            budget = max(one.budget for one in group)
            new = any(one.failures for one in group)
            if new:
                shown.failed.add(len(shown.cells))
            verdict = "FAILS" if new else "conforms" if group is good else "fails as the base does"
            shown.cells.append((subject, ops, f"{passed} of {checks}", str(sum(one.examples for one in group)),
                                percent(budget), verdict))  # fmt: skip
    return shown


def kernels(findings: Findings) -> Section:
    """The variants whose figures changed, the heaviest growth first; the others are counted."""
    compiled = sorted({row.architecture for row in findings.rows})
    shown = Section(f"kernels compiled for {', '.join(compiled)} by triton {triton_version()}",
                    ("kernel", "", *(TITLES.get(name, name) for name in SHOWN), ""))  # fmt: skip
    changed = sorted((row for row in findings.rows if row.changed or row.failures), key=lambda row: -growth(row))
    changed.sort(key=lambda row: not row.failures)
    for row in changed:
        if row.failures:
            shown.failed.add(len(shown.cells))
        verdict = "HEAVIER" if row.failures else "" if row.before else "new"
        name = f"{row.file.rpartition('/')[2].removesuffix('.py')}.{row.variant}"
        shown.cells.append((name, row.architecture, *(figure(row, what) for what in SHOWN), verdict))
    same = len(findings.rows) - len(changed)
    shown.lines.append(
        f"{same} of {len(findings.rows)} compiled variants are as they were; compared with {findings.figures}"
    )
    return shown


def growth(row: Row) -> float:
    before, now = row.before or {}, row.now
    return max((now[name] / before[name] for name in SHOWN if before.get(name) and name in now), default=0.0)


def figure(row: Row, name: str) -> str:
    before, now = (row.before or {}).get(name), row.now.get(name)
    if now is None:
        return "-"
    return str(now) if before in (None, now) else f"{before} > {now}"


def speed(findings: Findings) -> Section:
    (kind,) = {ratio.kind for ratio in findings.ratios}
    title = f"time over the base's, {findings.ratios[0].device}; fails when its interval begins above {NOISE[kind]:.2f}"
    shown = Section(title, ("subject", "case", "before", "now", "ratio", f"{CONFIDENCE:.0%} interval", ""))
    for place, ratio in enumerate(sorted(findings.ratios, key=lambda one: -one.low)):
        if ratio.slower:
            shown.failed.add(place)
        shown.cells.append(speed_cells(ratio))
    equal = sum(ratio.low <= 1 <= ratio.high for ratio in findings.ratios)
    lows, highs = [ratio.low for ratio in findings.ratios], [ratio.high for ratio in findings.ratios]
    shown.lines.append(f"{equal} of {len(lows)} intervals hold 1; they begin at {min(lows):.3f} to {max(lows):.3f} and end "
                       f"at {min(highs):.3f} to {max(highs):.3f}")  # fmt: skip
    return shown


def speed_cells(ratio: Ratio) -> tuple[str, ...]:
    return (ratio.subject, ratio.case, f"{1e3 * ratio.before:.3g} ms", f"{1e3 * ratio.now:.3g} ms",
            f"{ratio.ratio:.2f}", f"{ratio.low:.2f} .. {ratio.high:.2f}", ratio.verdict)  # fmt: skip


def conclusion(findings: Findings) -> Section:
    failures = list(findings.failures())
    old = [f"{one.subject}, {one.op}: {failure}" for one in findings.verdicts for failure in one.also_at_base]
    checks = "1 check fails" if len(old) == 1 else f"{len(old)} checks fail"
    if failures:
        said = f"FAIL: {', '.join(dict.fromkeys(part for part, _ in failures))}"
    elif old:
        said = f"PASS: nothing new stands against the change; {checks} as at the base"
    else:
        said = (
            f"PASS: {'nothing stands against the change' if findings.touched else 'nothing that computes was touched'}"
        )
    shown = Section(f"{said} ({findings.seconds:.0f} s)", lines=listed([f"{part}: {why}" for part, why in failures]))
    if old:
        shown.lines.append(
            f"{checks} at the base, too: not held against the change; what a failing check hides is not seen"
        )
        shown.lines += listed([f"also at the base: {why}" for why in old])
    return shown


def listed(reasons: list[str]) -> list[str]:
    """The first few, those of many lines indented, and how many more."""
    lines = []
    for reason in reasons[:MOST_REASONS]:
        first, *more = reason.splitlines()
        lines += [first, *(f"  {line}" for line in more)]
    return lines + [f"and {len(reasons) - MOST_REASONS} more"] * (len(reasons) > MOST_REASONS)


def percent(budget: float) -> str:
    """A share of the tolerance; how far beyond it a wrong value lies is said by the failure."""
    return f"{100 * budget:.0f} %" if budget <= 9.99 else "> 999 %"


def shortened(names: list[str], most: int = 6) -> str:
    """The first few names and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
