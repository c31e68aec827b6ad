"""Which ops of which subjects, and which kernels, does a change reach?"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from mmrec.conformance.gate.children import Located
from mmrec.conformance.gate.imports import Imports
from mmrec.conformance.gate.offers import Offer
from mmrec.conformance.ops import all_ops

JUDGE = "mmrec.conformance"


@dataclass
class Touched:
    """What of one subject a change reaches."""

    subject: Located
    name: str
    framework: str
    by_code: list[str] = field(default_factory=list)  # ops whose own code changed: to be judged and timed
    by_judge: list[str] = field(default_factory=list)  # ops whose reference, bound or judge changed: to be judged
    kernels: list[str] = field(default_factory=list)  # files whose kernels are to be compiled
    kernels_before: list[str] = field(default_factory=list)  # and those of the base that they may come from
    because: dict[str, set[str]] = field(default_factory=dict)  # changed file -> the ops it reaches

    @property
    def ops(self) -> list[str]:
        return [op for op in all_ops() if op in {*self.by_code, *self.by_judge}]


def touched_by(changed: Iterable[str] | None, offer: Offer, now: Imports, before: Imports) -> Touched:
    """What the changed files reach of a subject that can be loaded; None stands for "all of it"."""
    subject, counted = offer.subject, offer.now
    found = Touched(subject, counted["name"], counted["framework"])
    everything = changed is None
    changed = set(changed or ())
    root, root_before = now.tree.root.resolve(), before.tree.root.resolve()
    judge = judge_files(now) | judge_files(before)
    for op, files in counted["ops"].items():
        # An op that is written elsewhere comes through the subject's imports: all of them count then.
        sources = inside(root, files) or [subject.file]
        sources_before = inside(root_before, offer.before.get("ops", {}).get(op, [])) or sources
        code = ({subject.file} | reached(sources, sources_before, now, before)) & changed
        rules = (judge | reached(row_files(op, now), row_files(op, before), now, before)) & changed
        if code or everything:
            found.by_code.append(op)
        if rules or everything:
            found.by_judge.append(op)
        for file in code | rules:
            found.because.setdefault(file, set()).add(op)
    for file in inside(root, counted["kernels"]):
        if everything or reached([file], [file], now, before) & changed:
            found.kernels.append(file)
    kernels_before = inside(root_before, offer.before.get("kernels", []))
    found.kernels_before = [file for file in kernels_before if file in found.kernels or file in changed]
    return found


def reached(now_from: Iterable[str], before_from: Iterable[str], now: Imports, before: Imports) -> set[str]:
    """What the files depend on in either revision: a dependency that was dropped counts as much as a new one."""
    return now.reached_from(now_from) | before.reached_from(before_from)


def inside(root: Path, files: Iterable[str]) -> list[str]:
    """Those of the files that lie in the repository, relative to its root."""
    return [Path(file).relative_to(root).as_posix() for file in files if Path(file).is_relative_to(root)]


def judge_files(imports: Imports) -> set[str]:
    """What decides a verdict on any op, where the judge itself lies in the repository; how it is reported does not."""
    starts, plugin = set(), imports.by_name.get(f"{JUDGE}.plugin", set())
    for name, files in imports.by_name.items():
        if name.startswith(f"{JUDGE}.test_") or name == f"{JUDGE}.examination":
            starts |= files
    return imports.reached_from(starts) | plugin


def row_files(op: str, imports: Imports) -> set[str]:
    """The op's row, from which its reference and its bound are imported."""
    return imports.by_name.get(f"{all_ops.__module__}.{op}", set())
