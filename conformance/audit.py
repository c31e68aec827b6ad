"""Audit the judge: every wrong kernel of ``mutants/`` must be rejected, every correct one accepted.

    python -m mmrec.conformance.audit [--op OP ...] [--seeds N] [--profile gate] [--result results/audit.json]

Each variant goes through the very tests that subjects go through, in this process (mutants are trusted), check
after check until the first that rejects it. It exits with 1 when a wrong kernel survives, a correct one is
rejected, or a check exists that rejects nothing: such a check shows nothing.
"""

import argparse
import json
import os
import pkgutil
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib import import_module
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from mmrec import conformance
from mmrec.conformance.frameworks import framework
from mmrec.conformance.mutants import Variant, all_variants
from mmrec.conformance.ops import Property, all_ops
from mmrec.conformance.result import number, plain
from mmrec.conformance.subjects import Subject
from mmrec.conformance.verdicts import Record
from mmrec.conformance.worker import Answer, Request, describe, respond

KINDS = ("values", "contract", "property", "gradients")  # from plain to expensive; long sequences are left out


@dataclass(frozen=True)
class Check:
    """One conformance test, of one property where it has parts."""

    test: Callable[[Any], None]
    kind: str
    part: Property | None = None

    @property
    def name(self) -> str:
        return self.part.name if self.part else self.test.__name__.removeprefix("test_")


@dataclass
class Outcome:
    """What became of one variant under one seed."""

    op: str
    variant: str
    correct: bool
    why: str
    seed: int
    rejected: bool = False
    check: str = ""  # the one that rejected it
    clauses: str = ""
    verdict: str = "CONFORMS"
    dtype: str = ""
    examples: int = 0  # examined up to the rejection, or in all
    budget: float = 0.0  # the largest share of the tolerance that an accepted variant used
    message: str = ""
    case: str = ""
    seconds: float = 0.0

    @property
    def as_expected(self) -> bool:
        return self.rejected is not self.correct


def checks_of(op: str) -> list[Check]:
    """Every test that subjects go through, from cheap to expensive, found in the test modules."""
    found = []
    for module in pkgutil.iter_modules(conformance.__path__):
        if not module.name.startswith("test_"):
            continue
        for name, test in vars(import_module(f"{conformance.__name__}.{module.name}")).items():
            marks = [mark for mark in getattr(test, "pytestmark", ()) if mark.name == "conformance"]
            if name.startswith("test_") and marks:
                (kind,) = marks[0].args
                parts = all_ops()[op].properties if kind == "property" else (None,)
                found += [Check(test, kind, part) for part in parts if kind in KINDS]
    return sorted(found, key=lambda check: KINDS.index(check.kind))


class TrustedWorker:
    """A subject in this very process."""

    def __init__(self, subject: Subject):
        self.subject, self.profile = subject, describe(subject)

    def ask(self, request: Request) -> Answer:
        return respond(self.subject, request)


class Bench:
    """What an Examination expects of a pytest session: options, one worker, no subject that died."""

    def __init__(self, subject: Subject, profile: str, seed: int):
        option = SimpleNamespace(mmrec_profile=profile, mmrec_seed=seed, mmrec_replay=None)
        self.config = SimpleNamespace(option=option)
        self.dead: dict[tuple[str, str], Answer] = {}
        self._worker = TrustedWorker(subject)

    def worker(self, given: str) -> TrustedWorker:
        return self._worker


def audit_variant(op: str, variant: Variant, profile: str, seed: int) -> Outcome:
    """Put one variant through the checks until one rejects it; the check it is aimed at comes first."""
    from mmrec.conformance.mutants import _contract

    began = time.perf_counter()
    subject = Subject(variant.name, "torch", {op: variant.function}, declares={op: variant.declares}, checked=_contract.checked)
    bench = Bench(subject, profile, seed)
    outcome = Outcome(op, variant.name, variant.correct, variant.why, seed)
    checks = sorted(checks_of(op), key=lambda check: check.name != variant.caught_by)
    for check, dtype in ((check, dtype) for check in checks for dtype in variant.dtypes):
        record = run_check(check, bench, op, dtype)
        outcome.examples += record.examples
        if record.verdict != "CONFORMS":
            outcome.rejected, outcome.check, outcome.verdict = True, record.check, str(record.verdict)
            outcome.clauses, outcome.dtype, outcome.budget = ", ".join(record.clauses), dtype, record.budget
            outcome.message, outcome.case = record.worst["message"], record.worst["case"]
            break
        outcome.budget = max(outcome.budget, record.budget)
    outcome.seconds = round(time.perf_counter() - began, 2)
    return outcome


def run_check(check: Check, bench: Bench, op: str, dtype: str) -> Record:
    """The body of one test on one variant; its verdict is in the record."""
    from mmrec.conformance.examination import Examination

    examination = Examination(bench, SimpleNamespace(function=check.test), bench._worker.subject.name, op, dtype, check.part)
    try:
        check.test(examination)
    except (pytest.skip.Exception, pytest.fail.Exception):
        pass
    return examination.record


# ---- all variants ---------------------------------------------------------------------------------


def start_process() -> None:
    """Every process poisons uninitialised buffers before a mutant can allocate one, and keeps to one core."""
    import torch

    torch.set_num_threads(1)
    framework("torch").prepare()


def audit_named(op: str, name: str, profile: str, seed: int) -> Outcome:
    """``audit_variant`` by name: functions do not travel between processes."""
    (variant,) = (variant for variant in all_variants()[op] if variant.name == name)
    return audit_variant(op, variant, profile, seed)


def audit_all(ops: list[str], profile: str, seeds: list[int], processes: int) -> Iterator[Outcome]:
    """Every variant of the ops under every seed, in order, spread over processes."""
    jobs = [(op, variant.name, profile, seed) for seed in seeds for op in ops for variant in all_variants()[op]]
    with ProcessPoolExecutor(processes, get_context("spawn"), initializer=start_process) as pool:
        yield from pool.map(audit_named, *zip(*jobs, strict=True))


def checks_that_rejected_nothing(ops: list[str], outcomes: list[Outcome]) -> list[str]:
    """Names of checks under which no wrong variant of any op fell."""
    exist = dict.fromkeys(check.name for op in ops for check in checks_of(op))
    used = {outcome.check for outcome in outcomes if outcome.rejected and not outcome.correct}
    return [name for name in exist if name not in used]


# ---- what comes out ---------------------------------------------------------------------------------


def print_matrix(op: str, outcomes: list[Outcome], console: Console) -> None:
    """Every variant of an op, and what became of it."""
    table = Table(title=op, title_justify="left", show_edge=False, pad_edge=False)
    for column, width in (("", 8), ("variant", 27), ("why", 58), ("by", 44), ("verdict", 16)):
        table.add_column(column, no_wrap=True, overflow="ellipsis", max_width=width)
    table.add_column("examples", justify="right", no_wrap=True)
    table.add_column("budget", justify="right", no_wrap=True)
    for outcome in outcomes:
        table.add_row(*row_of(outcome), style="" if outcome.as_expected else "bold red")
    console.print(table)
    console.print()


def row_of(outcome: Outcome) -> tuple[str, ...]:
    became = {(True, True): "REJECTED", (True, False): "accepted", (False, True): "killed", (False, False): "SURVIVED"}
    by = f"{outcome.clauses.split(',')[0]} {outcome.check.replace('_', ' ')}" if outcome.rejected else ""
    budget = "" if outcome.rejected else f"{100 * outcome.budget:.0f} %"
    verdict = outcome.verdict if outcome.rejected else ""
    return (became[outcome.correct, outcome.rejected], outcome.variant, outcome.why, by, verdict, str(outcome.examples), budget)


def summary_of(outcomes: list[Outcome]) -> dict[str, Any]:
    """Counts by op: how many variants, how many fell or stood, and which was the slowest to fall."""
    by_op: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_op[outcome.op].append(outcome)
    return {op: _counts(found) for op, found in by_op.items()}


def _counts(found: list[Outcome]) -> dict[str, Any]:
    wrong = [outcome for outcome in found if not outcome.correct]
    right = [outcome for outcome in found if outcome.correct]
    slowest = max((outcome for outcome in wrong if outcome.rejected), key=lambda outcome: outcome.examples)
    return {
        "wrong": len(wrong), "killed": sum(outcome.rejected for outcome in wrong),
        "correct": len(right), "accepted": sum(not outcome.rejected for outcome in right),
        "largest_budget": max(outcome.budget for outcome in right), "slowest": slowest.variant,
        "slowest_examples": slowest.examples, "seconds": round(sum(outcome.seconds for outcome in found), 1),
    }  # fmt: skip


def print_summary(summary: dict[str, Any], console: Console) -> None:
    table = Table(title="Audit of the judge", title_justify="left", show_edge=False, pad_edge=False)
    for column in ("op", "wrong killed", "correct accepted", "largest budget", "slowest to fall", "after examples", "seconds"):
        table.add_column(column, justify="left" if column in ("op", "slowest to fall") else "right", no_wrap=True)
    for op, counts in summary.items():
        table.add_row(op, f"{counts['killed']} of {counts['wrong']}", f"{counts['accepted']} of {counts['correct']}",
                      f"{100 * number(counts['largest_budget']):.0f} %", counts["slowest"],
                      str(counts["slowest_examples"]), f"{counts['seconds']:.0f}")  # fmt: skip
    console.print(table)


def print_surprises(outcomes: list[Outcome], unused: list[str], console: Console) -> None:
    """What must be explained: surviving mutants, rejected correct kernels, checks that show nothing."""
    for outcome in (outcome for outcome in outcomes if not outcome.as_expected):
        what = "correct, but REJECTED" if outcome.correct else "wrong, but SURVIVED"
        console.print(f"{outcome.op} {outcome.variant}, seed {outcome.seed}: {what} ({outcome.why})", style="bold red")
        if outcome.rejected:
            console.print(f"  by {outcome.check}, {outcome.dtype}: {outcome.message}\n  case {outcome.case}", soft_wrap=True)
    for name in unused:
        console.print(f"{name}: no wrong kernel fell under this check: it shows nothing", style="bold red")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m mmrec.conformance.audit", description="Audit the judge with mutants.")
    parser.add_argument("--op", action="append", choices=list(all_variants()), help="only these ops")
    parser.add_argument("--profile", default="gate", choices=("quick", "gate", "full"), help="how hard the judge looks")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="repeat with N seeds")
    parser.add_argument("--processes", type=int, default=min(os.cpu_count() or 1, 8))
    parser.add_argument("--result", type=Path, default=Path("results/audit.json"), help="where the outcomes go")
    chosen = parser.parse_args()
    ops, seeds = chosen.op or list(all_variants()), list(range(chosen.seed, chosen.seed + chosen.seeds))

    began, console = time.time(), Console(width=None if sys.stdout.isatty() else 190)
    outcomes: list[Outcome] = []
    for (seed, op), found in groupby(audit_all(ops, chosen.profile, seeds, chosen.processes), lambda o: (o.seed, o.op)):
        of_this_op = list(found)
        outcomes += of_this_op
        if seed == chosen.seed:
            print_matrix(op, of_this_op, console)
    unused = [] if chosen.op else checks_that_rejected_nothing(ops, outcomes)
    summary = summary_of(outcomes)

    document = {"profile": chosen.profile, "seeds": seeds, "seconds": round(time.time() - began, 1), "ops": summary,
                "checks_that_rejected_nothing": unused, "outcomes": [asdict(outcome) for outcome in outcomes]}  # fmt: skip
    chosen.result.parent.mkdir(parents=True, exist_ok=True)
    chosen.result.write_text(json.dumps(plain(document), indent=1, allow_nan=False) + "\n")

    print_summary(summary, console)
    print_surprises(outcomes, unused, console)
    console.print(f"{len(outcomes)} verdicts in {document['seconds']} s; all in {chosen.result}")
    sys.exit(0 if not unused and all(outcome.as_expected for outcome in outcomes) else 1)


if __name__ == "__main__":
    main()
