"""Do the ops that a change reaches still conform? `mmrec verify`, profile quick, and what its result file says.

Where an interpreter runs the kernels, the quick profile sees a few steps only. A carry that is lost at a block edge
would not be noticed: one sequence of 257 steps, past every usual edge, is judged in addition, forwards and backwards.

A change is not blamed for what failed before it: what fails is judged in the base, too.
"""

import math
import os
import subprocess
from collections import defaultdict
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmrec.conformance.cases import Case
from mmrec.conformance.gate.children import Children
from mmrec.conformance.gate.touched import Touched
from mmrec.conformance.ops import Sizes, all_ops
from mmrec.conformance.plugin import QUICK_DTYPES
from mmrec.conformance.result import number, read
from mmrec.numerics.formats import FLOAT32

PASSED = ("CONFORMS", "WAIVED")
EDGES = Sizes(1, 257, 2)
VALUES = "every_value or every_gradient"  # the checks that any case suits


@dataclass
class Verdict:
    """What the judge found of one op of one subject."""

    subject: str
    op: str
    checks: int
    passed: int
    examples: int
    budget: float  # the largest share of a tolerance that was used
    clauses: tuple[str, ...]  # that were judged
    failures: list[str]  # of lines: dtype, verdict and clause; the element; how to replay it
    also_at_base: list[str]  # failures, too, but the base has the same: they do not stand against the change

    @property
    def conforms(self) -> bool:
        return self.passed == self.checks > 0 and not self.failures


Record = dict[str, Any]
Failure = tuple[str, str, str, str, str]  # op, dtype, check, verdict, and the case if it is one alone


def judge(touched: Touched, now: Children, before: Children, folder: Path, dtypes: Iterable[str]) -> list[Verdict]:
    """Verdicts on the touched ops of one subject. What fails is asked of the base too: op, dtype and check, no more."""
    found, wrong = examine(touched, now, folder / "now", touched.ops, list(dtypes) or QUICK_DTYPES)
    failed = [failure for records in found.values() for failure in map(failure_of, records) if failure]
    old: set[Failure | None] = set()
    if failed:
        ops, formats, checks, _, _ = (list(dict.fromkeys(names)) for names in zip(*failed, strict=True))
        at_base, _ = examine(touched, before, folder / "base", ops, formats, " or ".join(checks))
        old = {failure_of(record) for records in at_base.values() for record in records}
    return [verdict_of(touched.name, op, found.get(op, []), wrong, old) for op in touched.ops]


def examine(
    touched: Touched, children: Children, folder: Path, ops: list[str], dtypes: list[str], checks: str = ""
) -> tuple[dict[str, list[Record]], str]:
    """The records of each op, the long sequence's among them, and why the judge gave none, or "". `checks` as for
    pytest's -k, all when it is empty."""
    jobs = min(os.cpu_count() or 1, len(ops) * len(dtypes))  # what one job judges is not divided further
    command = ["--profile", "quick", *(f"--op={op}" for op in ops), *(f"--dtype={name}" for name in dtypes)]
    only = ["--", "-k", checks] if checks else []
    records, wrong = verify(touched, children, folder, [*command, "--jobs", str(jobs), *only])
    about = records.pop("", [{}])[0]
    if about.get("interpreted"):
        suiting = f"({VALUES}) and ({checks})" if checks else VALUES
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            edges = [["--replay", str(edge_case(op)), "--", "-k", suiting] for op in ops]
            runs = pool.map(lambda op, asked: verify(touched, children, folder / op, asked), ops, edges)
            for op, (more, unsaid) in zip(ops, runs, strict=True):
                records[op] = records.get(op, []) + more.get(op, [])
                wrong = wrong or unsaid
    return records, wrong


def edge_case(op: str) -> Case:
    """One sequence past every usual block edge, in the op's first regime."""
    row = all_ops()[op]
    return Case(op, FLOAT32.name, next(iter(row.regimes)), EDGES, seed=0, options=row.default_options)


def verify(
    touched: Touched, children: Children, out: Path, arguments: list[str]
) -> tuple[dict[str, list[Record]], str]:
    """One run of the judge: records by op, what it knows of the subject under "", and why there is no result, or ""."""
    command = children.command("mmrec.conformance", "verify", touched.subject.given, "--out", str(out), *arguments)
    ran = subprocess.run(command, cwd=children.tree.root, env=children.environment(judge=True), capture_output=True, text=True,
                         check=False)  # fmt: skip
    try:
        document = read(out / "result.json")
    except ValueError:
        said = (ran.stderr.strip() or ran.stdout.strip() or "nothing").splitlines()
        return {}, f"the judge gave no result and said: {said[-1]}"
    records: dict[str, list[Record]] = defaultdict(list)
    for record in document["records"]:
        records[record["op"]].append(record | {"alone": document.get("replay", "")})
    records[""] = list(document["subjects"].values())
    failed = any(record["verdict"] not in PASSED for record in document["records"])
    unsaid = ran.returncode != 0 and not failed  # a test broke before it could reach a verdict
    return records, f"the judge ended with exit code {ran.returncode}" if unsaid else ""


def verdict_of(subject: str, op: str, records: list[Record], wrong: str, old: Collection[Failure | None]) -> Verdict:
    """What the records come to; `old` are the failures of the base."""
    judged = [record for record in records if not record["left_out"] and record["verdict"] != "NOT_IMPLEMENTED"]
    failed = [record for record in judged if failure_of(record)]
    # A result that misses its bound is held against the change even so: it may miss it by more.
    known = [record for record in failed if failure_of(record) in old and not 1 < number(record["budget"]) < math.inf]
    failures = [told(record) for record in failed if record not in known] + [wrong] * bool(wrong)
    budget = max((number(record["budget"]) for record in judged), default=0.0)
    clauses = tuple(dict.fromkeys(clause for record in judged for clause in record["clauses"]))
    return Verdict(subject, op, len(judged), len(judged) - len(failed), sum(r["examples"] for r in judged), budget, clauses,
                   failures or ["nothing was judged"] * (not judged), [told(record) for record in known])  # fmt: skip


def failure_of(record: Record) -> Failure | None:
    """By what a failure is known again in another run; None where the record is none.

    Not by its numbers: those of a check that fails move with any change of an order of evaluation.
    """
    if record["left_out"] or record["verdict"] in (*PASSED, "NOT_IMPLEMENTED"):
        return None
    return record["op"], record["dtype"], record["check"], record["verdict"], record.get("alone") or ""


def told(record: Record) -> str:
    words = [record["dtype"], f"{record['verdict']} {', '.join(record['clauses'])}", record["check"].replace("_", " ")]
    return "\n".join(filter(None, [", ".join(words), record["worst"].get("message", ""), record["replay"]]))
