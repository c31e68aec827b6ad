"""Do the ops that a change reaches still conform? `mmrec verify`, profile quick, and what its result file says.

Where an interpreter runs the kernels, the quick profile sees a few steps only. A carry that is lost at a block edge
would not be noticed: one sequence of 257 steps, past every usual edge, is judged in addition, forwards and backwards.
"""

import os
import subprocess
from collections import defaultdict
from collections.abc import Iterable
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
    failures: list[str]  # of lines: dtype, verdict and clause; the element; how to replay it

    @property
    def conforms(self) -> bool:
        return self.passed == self.checks > 0 and not self.failures


def judge(touched: Touched, children: Children, folder: Path, dtypes: Iterable[str]) -> list[Verdict]:
    """Verdicts on the touched ops of one subject."""
    formats = list(dtypes) or QUICK_DTYPES
    jobs = min(os.cpu_count() or 1, len(touched.ops) * len(formats))  # what one job judges is not divided further
    command = ["--profile", "quick", *(f"--op={op}" for op in touched.ops), *(f"--dtype={name}" for name in formats)]
    records, wrong = verify(touched, children, folder / "quick", [*command, "--jobs", str(jobs)])
    about = records.pop("", [{}])[0]
    if about.get("interpreted"):
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            edges = [["--replay", str(edge_case(op)), "--", "-k", VALUES] for op in touched.ops]
            runs = pool.map(lambda op, asked: verify(touched, children, folder / op, asked), touched.ops, edges)
            for op, (more, unsaid) in zip(touched.ops, runs, strict=True):
                records[op] = records.get(op, []) + more.get(op, [])
                wrong = wrong or unsaid
    return [verdict_of(touched.name, op, records.get(op, []), wrong) for op in touched.ops]


def edge_case(op: str) -> Case:
    """One sequence past every usual block edge, in the op's first regime."""
    row = all_ops()[op]
    return Case(op, FLOAT32.name, next(iter(row.regimes)), EDGES, seed=0, options=row.default_options)


def verify(
    touched: Touched, children: Children, out: Path, arguments: list[str]
) -> tuple[dict[str, list[dict[str, Any]]], str]:
    """One run of the judge: records by op, what it knows of the subject under "", and why there is no result, or ""."""
    command = children.command("mmrec.conformance", "verify", touched.subject.given, "--out", str(out), *arguments)
    ran = subprocess.run(command, cwd=children.tree.root, env=children.environment(judge=True), capture_output=True, text=True,
                         check=False)  # fmt: skip
    try:
        document = read(out / "result.json")
    except ValueError:
        said = (ran.stderr.strip() or ran.stdout.strip() or "nothing").splitlines()
        return {}, f"the judge gave no result and said: {said[-1]}"
    records: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in document["records"]:
        records[record["op"]].append(record)
    records[""] = list(document["subjects"].values())
    failed = any(record["verdict"] not in PASSED for record in document["records"])
    unsaid = ran.returncode != 0 and not failed  # a test broke before it could reach a verdict
    return records, f"the judge ended with exit code {ran.returncode}" if unsaid else ""


def verdict_of(subject: str, op: str, records: list[dict[str, Any]], wrong: str) -> Verdict:
    judged = [record for record in records if not record["left_out"] and record["verdict"] != "NOT_IMPLEMENTED"]
    failed = [record for record in judged if record["verdict"] not in PASSED]
    failures = [failure_of(record) for record in failed] + [wrong] * bool(wrong)
    budget = max((number(record["budget"]) for record in judged), default=0.0)
    return Verdict(subject, op, len(judged), len(judged) - len(failed), sum(r["examples"] for r in judged), budget,
                   failures or ["nothing was judged"] * (not judged))  # fmt: skip


def failure_of(record: dict[str, Any]) -> str:
    words = [record["dtype"], f"{record['verdict']} {', '.join(record['clauses'])}", record["check"].replace("_", " ")]
    return "\n".join(filter(None, [", ".join(words), record["worst"].get("message", ""), record["replay"]]))
