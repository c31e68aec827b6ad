"""Put a variant of an op through the tests that subjects go through, in this process and without pytest.

Mutants are trusted, so that no child process is needed, and one verdict is enough: the first check that rejects a
variant ends its examination.
"""

import contextlib
import pkgutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest

from mmrec import conformance
from mmrec.conformance.examination import Examination
from mmrec.conformance.mutants import Variant
from mmrec.conformance.mutants._contract import checked
from mmrec.conformance.ops import Property, all_ops
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
    examples: int = 0  # examined by the check that rejected it, or in all
    budget: float = 0.0  # the largest share of the tolerance that an accepted variant used
    message: str = ""
    case: str = ""  # the minimal one that rejects it
    seconds: float = 0.0

    @property
    def as_expected(self) -> bool:
        return self.rejected is not self.correct


@cache
def checks_of(op: str) -> tuple[Check, ...]:
    """Every test that subjects go through, from plain to expensive, found in the test modules."""
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
    return tuple(sorted(found, key=lambda check: KINDS.index(check.kind)))


class TrustedWorker:
    """A subject in this very process."""

    def __init__(self, subject: Subject):
        self.subject, self.profile = subject, describe(subject)

    def ask(self, request: Request) -> Answer:
        return respond(self.subject, request)


class Bench:
    """What an Examination expects of a pytest session: options, a worker, and that the subject is alive."""

    def __init__(self, subject: Subject, profile: str, seed: int):
        option = SimpleNamespace(mmrec_profile=profile, mmrec_seed=seed, mmrec_replay=None)
        self.config = SimpleNamespace(option=option)
        self.dead: dict[tuple[str, str], Answer] = {}
        self._worker = TrustedWorker(subject)

    def worker(self, given: str) -> TrustedWorker:
        return self._worker


def audit_variant(op: str, variant: Variant, profile: str, seed: int) -> Outcome:
    """Put one variant through the checks until one rejects it; the check it is aimed at comes first."""
    began = time.perf_counter()
    subject = Subject(variant.name, "torch", {op: variant.function}, declares={op: variant.declares}, checked=checked)
    bench = Bench(subject, profile, seed)
    outcome = Outcome(op, variant.name, variant.correct, variant.why, seed)
    checks = sorted(checks_of(op), key=lambda check: check.name != variant.caught_by)
    for check, dtype in ((check, dtype) for check in checks for dtype in variant.dtypes):
        record = run_check(check, bench, variant.name, op, dtype)
        if record.verdict != "CONFORMS":
            outcome.rejected, outcome.check, outcome.verdict = True, record.check, str(record.verdict)
            outcome.clauses, outcome.dtype, outcome.budget = ", ".join(record.clauses), dtype, record.budget
            outcome.message, outcome.case = record.worst["message"], record.worst["case"]
            outcome.examples = record.examples
            break
        outcome.budget = max(outcome.budget, record.budget)
        outcome.examples += record.examples
    outcome.seconds = round(time.perf_counter() - began, 2)
    return outcome


def run_check(check: Check, bench: Bench, given: str, op: str, dtype: str) -> Record:
    """The body of one test on one variant; its verdict is in the record."""
    node: Any = SimpleNamespace(function=check.test)
    examination = Examination(bench, node, given, op, dtype, check.part)
    with contextlib.suppress(pytest.skip.Exception, pytest.fail.Exception):
        check.test(examination)
    return examination.record
