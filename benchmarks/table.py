"""The table at the end of a run."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmrec.benchmarks.cases import BASELINE
from mmrec.benchmarks.device import Device

WIDTH = 120  # where the output is no terminal
EXPLANATION = f"""\
time     of one call, in the best round
share    the least time its bytes (copy) or its matrix products (product) take at the device's own rates,
         over the time taken; what fits into the cache may exceed 100 % of the copy rate
/ {BASELINE}  time over {BASELINE}'s"""


def print_table(rows: Iterable[dict[str, Any]], device: Device, console: Console) -> None:
    """One line a case under the work it does, in the order of the run."""
    console.print(f"{device.title}: copies {device.copy_rate / 1e9:.4g} GB/s, multiplies float32 matrices at "
                  f"{device.product_rate / 1e12:.3g} TFLOP/s", style="bold", highlight=False)  # fmt: skip
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("op, direction, shape, dtype", no_wrap=True)
    for heading in ("time", "share", "of", f"/ {BASELINE}"):
        table.add_column(heading, justify="left" if heading == "of" else "right", no_wrap=True)
    group = None
    for row in rows:
        if row["group"] != group:
            group = row["group"]
            table.add_row(Text(group, style="bold"))
        name = f"  {row['implementation']}{' (peer)' if row['peer'] else ''}"
        limit = row["bound_by"] + ("" if row["beyond_cache"] or row["bound_by"] != "copy" else " (in cache)")
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.3g}"
        table.add_row(name, duration(row["seconds"]), f"{100 * row['share']:.3g} %", limit, ratio)
    console.print(table)
    console.print(EXPLANATION, style="dim", highlight=False)


def duration(seconds: float) -> str:
    """Three digits and a unit."""
    unit, scale = ("s", 1.0) if seconds >= 1 else ("ms", 1e-3) if seconds >= 1e-3 else ("us", 1e-6)
    return f"{seconds / scale:.3g} {unit}"
