"""The table at the end of a run."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from rich.console import Console

from mmrec.benchmarks.cases import Case
from mmrec.benchmarks.device import Device
from mmrec.benchmarks.implementations import BASELINE
from mmrec.benchmarks.measurement import Row
from mmrec.benchmarks.run import Run
from mmrec.conformance.report.speeds import untimed_lines
from mmrec.conformance.report.wording import duration, used

MOST_NAMED = 8
NUMBERS = ("time", "host", "share", f"/ {BASELINE}")
HEADINGS = ("op, direction, shape, dtype", *NUMBERS[:3], "of", NUMBERS[3], "")
EXPLANATION = f"""\
time     of one call, in the best round
host     to enqueue one call, in the last round; where that is longer, an
         eager program waits for it
share    the least time its bytes (copy) or its operations (product) take at
         the device's own rates, over the time taken; what fits into the cache
         may exceed 100 % of the copy rate
/ {BASELINE}  time over {BASELINE}'s"""


def print_run(run: Run, thresholds_checked: bool, path: Path) -> None:
    """The table, what was not timed, and what is wrong."""
    console = Console()
    console.print()
    if run.rows and run.device:
        print_table(run.rows, run.device, console)
        console.print(f"times   {path}")
    for line in untimed_lines(run.untimed):
        console.print(line, style="dim", soft_wrap=True, highlight=False)
    if run.compiled_late:
        console.print(late_line(run.compiled_late), style="dim", soft_wrap=True, highlight=False)
    for problem in run.problems:
        console.print(problem, style="bold red", soft_wrap=True, highlight=False)
    if thresholds_checked:
        kept = f"{len(run.problems)} not kept" if run.problems else "all kept"
        console.print(f"thresholds: {kept}", style="bold")


def late_line(found: Sequence[tuple[Case, str, float]]) -> str:
    """How many kernels were compiled where they were timed, and the slowest of them."""
    slowest = sorted(found, key=lambda one: -one[2])[:MOST_NAMED]
    named = "; ".join(f"{kernel} {seconds:.1f} s ({case})" for case, kernel, seconds in slowest)
    total = sum(seconds for _, _, seconds in found)
    return f"{len(found)} kernels were not compiled ahead, {total:.0f} s: {named}"


def print_table(rows: Iterable[Row], device: Device, console: Console) -> None:
    """One line a case under the work it does; the points of the scaling figure are in the report only."""
    rates = ", ".join(f"{dtype} at {rate / 1e12:.3g} TFLOP/s" for dtype, rate in device.product_rates.items())
    console.print(f"{device.title}: copies {device.copy_rate / 1e9:.4g} GB/s, multiplies matrices of {rates}",
                  style="bold", soft_wrap=True, highlight=False)  # fmt: skip
    groups = [(group, [_cells(row) for row in some]) for group, some in by_group(rows)]
    widths = [
        max(map(len, column)) for column in zip(HEADINGS, *(row for _, some in groups for row in some), strict=True)
    ]
    console.print(_line(HEADINGS, widths), style="bold", soft_wrap=True, highlight=False)
    for group, some in groups:
        console.print(group, style="bold", soft_wrap=True, highlight=False)
        for row in some:
            console.print(_line(row, widths), style="red" if row[-1] else None, soft_wrap=True, highlight=False)
    console.print(EXPLANATION, style="dim", highlight=False)


def by_group(rows: Iterable[Row]) -> Iterable[tuple[str, Iterable[Row]]]:
    """Rows of the same work beside each other, in the order of their first: frameworks are timed one after the other."""
    shown = [row for row in rows if not row["scaling"]]
    order = list(dict.fromkeys(row["group"] for row in shown))
    return groupby(sorted(shown, key=lambda row: order.index(row["group"])), key=lambda row: row["group"])


def _cells(row: Row) -> list[str]:
    name = f"  {row['implementation']}" + (f" ({row['layout']}, peer)" if row["peer"] else "")
    limit = row["bound_by"] + ("" if row["beyond_cache"] or row["bound_by"] != "copy" else " (in cache)")
    ratio = "" if row["ratio"] is None else f"{row['ratio']:.3g}"
    wrong = f"wrong: {used(row['budget'])} its bound" if row["wrong"] else ""
    host = "" if row.get("host_seconds") is None else duration(row["host_seconds"])
    return [name, duration(row["seconds"]), host, f"{100 * row['share']:.3g} %", limit, ratio, wrong]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Cells beside each other, numbers to the right: no column is cut, and a terminal may wrap the line."""
    aligned = [
        cell.rjust(width) if heading in NUMBERS else cell.ljust(width)
        for cell, width, heading in zip(cells, widths, HEADINGS, strict=True)
    ]
    return "  ".join(aligned).rstrip()
