"""Audit the judge: every wrong kernel of ``mutants/`` must be rejected, every correct one accepted.

    python -m mmrec.conformance.audit [--op OP ...] [--seeds N] [--profile gate] [--result results/audit.json]

It exits with 1 when a wrong kernel survives, a correct one is rejected, or some check rejects nothing at all: such
a check shows nothing.
"""

import argparse
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mmrec.conformance.bench import Outcome, audit_variant, checks_of
from mmrec.conformance.frameworks import framework
from mmrec.conformance.mutants import all_variants
from mmrec.conformance.result import number, plain

PIPE_WIDTH = 190  # columns when the output goes to a file

# ---- all variants -------------------------------------------------------------------------------


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


def summary_of(outcomes: list[Outcome]) -> dict[str, dict[str, Any]]:
    """Counts by op: how many variants, how many fell or stood, and which was the slowest to fall."""
    by_op: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_op[outcome.op].append(outcome)
    return {op: counts_of(found) for op, found in by_op.items()}


def counts_of(found: list[Outcome]) -> dict[str, Any]:
    wrong = [outcome for outcome in found if not outcome.correct]
    right = [outcome for outcome in found if outcome.correct]
    killed = [outcome for outcome in wrong if outcome.rejected]
    slowest = max(killed, key=lambda outcome: outcome.examples, default=None)
    return {
        "wrong": len(wrong),
        "killed": len(killed),
        "correct": len(right),
        "accepted": sum(not outcome.rejected for outcome in right),
        "largest_budget": max((outcome.budget for outcome in right), default=0.0),
        "slowest": slowest.variant if slowest else "",
        "slowest_examples": slowest.examples if slowest else 0,
        "seconds": round(sum(outcome.seconds for outcome in found), 1),
    }


# ---- what comes out -------------------------------------------------------------------------------


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
    if outcome.rejected:
        became = "REJECTED" if outcome.correct else "killed"
        by, budget = f"{outcome.clauses.split(',')[0]} {outcome.check.replace('_', ' ')}", ""
    else:
        became = "accepted" if outcome.correct else "SURVIVED"
        by, budget = "", f"{100 * outcome.budget:.0f} %"
    return became, outcome.variant, outcome.why, by, outcome.verdict, str(outcome.examples), budget


def print_progress(of_this_seed: list[Outcome], seconds: float, console: Console) -> None:
    """One line when a seed is through: what fell, what stood, how close a correct kernel came, the time so far."""
    counts = counts_of(of_this_seed)
    console.print(f"seed {of_this_seed[0].seed}: {counts['killed']} of {counts['wrong']} wrong killed, {counts['accepted']} of "
                  f"{counts['correct']} correct accepted, largest budget {100 * number(counts['largest_budget']):.0f} %; "
                  f"{seconds:.0f} s so far", soft_wrap=True)  # fmt: skip


def print_summary(summary: dict[str, dict[str, Any]], console: Console) -> None:
    table = Table(title="Audit of the judge", title_justify="left", show_edge=False, pad_edge=False)
    numbers = ("wrong killed", "correct accepted", "largest budget", "after examples", "seconds")
    for column in ("op", "wrong killed", "correct accepted", "largest budget", "slowest to fall", *numbers[3:]):
        table.add_column(column, justify="right" if column in numbers else "left", no_wrap=True)
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
            console.print(f"  by {outcome.check}, {outcome.dtype}: {outcome.message}", soft_wrap=True)
            console.print(f"  case {outcome.case}", soft_wrap=True)
    for name in unused:
        console.print(f"{name}: no wrong kernel fell under this check: it shows nothing", style="bold red")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m mmrec.conformance.audit", description="Judge the judge.")
    parser.add_argument("--op", action="append", choices=list(all_variants()), help="only these ops")
    parser.add_argument("--profile", default="gate", choices=("quick", "gate", "full"), help="how hard the judge looks")
    parser.add_argument("--seed", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="repeat with N seeds")
    parser.add_argument("--processes", type=int, default=min(os.cpu_count() or 1, 8), help="default: one a core")
    parser.add_argument("--result", type=Path, default=Path("results/audit.json"), help="where the outcomes go")
    return parser.parse_args()


def main() -> None:
    chosen = arguments()
    ops, seeds = chosen.op or list(all_variants()), list(range(chosen.seed, chosen.seed + chosen.seeds))
    began, console = time.time(), Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)

    outcomes: list[Outcome] = []
    every_one = audit_all(ops, chosen.profile, seeds, chosen.processes)
    for (seed, op), found in groupby(every_one, lambda outcome: (outcome.seed, outcome.op)):
        of_this_op = list(found)
        outcomes += of_this_op
        if seed == chosen.seed:
            print_matrix(op, of_this_op, console)
        else:
            print_surprises(of_this_op, [], console)
        if op == ops[-1]:
            print_progress([outcome for outcome in outcomes if outcome.seed == seed], time.time() - began, console)

    unused = [] if chosen.op else checks_that_rejected_nothing(ops, outcomes)
    summary, seconds = summary_of(outcomes), round(time.time() - began, 1)
    document = {
        "profile": chosen.profile, "seeds": seeds, "seconds": seconds, "ops": summary,
        "checks_that_rejected_nothing": unused, "outcomes": [asdict(outcome) for outcome in outcomes],
    }  # fmt: skip
    chosen.result.parent.mkdir(parents=True, exist_ok=True)
    chosen.result.write_text(json.dumps(plain(document), indent=1, allow_nan=False) + "\n")

    print_summary(summary, console)
    print_surprises(outcomes, unused, console)
    console.print(f"{len(outcomes)} verdicts in {seconds} s; all in {chosen.result}")
    sys.exit(0 if not unused and all(outcome.as_expected for outcome in outcomes) else 1)


if __name__ == "__main__":
    main()
