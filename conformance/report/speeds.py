"""What does a timings document say? Its rows as tables, one an op: implementations side by side, and the best peers."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from markupsafe import Markup

from mmrec.conformance.report.speed_figures import ours_of, roofline, scaling_figure
from mmrec.conformance.report.wording import anchor, duration, used
from mmrec.conformance.result import number

Row = dict[str, Any]
Cell = dict[str, Any]

LAYOUTS = {"BTD": "best peer in [B,T,D]", "BDT": "best peer in [B,D,T]"}


def speeds_of(timings: dict[str, Any]) -> dict[str, Any]:
    """Everything that the template sets."""
    rows = [row for row in timings["rows"] if not row["scaling"]]
    device, software = timings["device"], timings["software"]
    return {
        "title": device["title"],
        "created": timings["created"],
        "rates": rates_of(device),
        "software": ", ".join(f"{name} {version}" for name, version in software.items()),
        "tables": tables_of(rows, timings["untimed"]),
        "names": ours_of(rows),
        "wrong_beyond": used(timings["wrong_beyond"]),
        "peers": [peer_row(row) for row in rows if row["peer"]],
        "untimed": untimed_lines(timings["untimed"]),
        "problems": timings["problems"],
        "roofline": roofline(rows, device) if rows else Markup(""),
        "scaling": scaling_figure([row for row in timings["rows"] if row["scaling"] and not row["peer"]]),
    }


def rates_of(device: dict[str, Any]) -> str:
    products = [f"{rate / 1e12:.3g} TFLOP/s in {dtype}" for dtype, rate in device["product_rates"].items()]
    return f"it copies {device['copy_rate'] / 1e9:.4g} GB/s and multiplies matrices at {' and '.join(products)}"


def untimed_lines(untimed: Iterable[Row]) -> list[str]:
    """A line a reason, the commonest first; where it is that of several cases, whose and how many."""
    by_reason: dict[str, Counter[str]] = defaultdict(Counter)
    for row in untimed:
        by_reason[row["reason"]][f"{row['implementation']} {row['op']}"] += 1
    ordered = sorted(by_reason.items(), key=lambda item: -item[1].total())
    return [f"{names.total()} x {reason}" + (f": {', '.join(f'{name} ({n})' for name, n in names.items())}"
                                            if names.total() > 1 else "") for reason, names in ordered]  # fmt: skip


# ---- tables --------------------------------------------------------------------------------
def tables_of(rows: list[Row], untimed: Iterable[Row]) -> list[dict[str, Any]]:
    """A table an op, a line a piece of work: its least time, each implementation, and the best right peers."""
    by_op: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_op[row["op"]].append(row)
    missing = {(row["group"], row["implementation"]) for row in untimed if not row["peer"]}
    return [table_of(op, some, ours_of(rows), missing) for op, some in sorted(by_op.items())]


def table_of(op: str, rows: list[Row], names: list[str], missing: set[tuple[str, str]]) -> dict[str, Any]:
    ours = [name for name in names if any(row["implementation"] == name and not row["peer"] for row in rows)]
    layouts = [layout for layout in LAYOUTS if any(row["peer"] and row["layout"] == layout for row in rows)]
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["group"]].append(row)
    columns = [*ours, *(LAYOUTS[layout] for layout in layouts)]
    return {"op": op, "anchor": anchor("speed", op), "columns": columns,
            "rows": [line_of(some, ours, layouts, missing) for some in groups.values()]}  # fmt: skip


def line_of(rows: list[Row], ours: list[str], layouts: list[str], missing: set[tuple[str, str]]) -> dict[str, Any]:
    first = rows[0]
    found = [next((row for row in rows if row["implementation"] == name and not row["peer"]), None) for name in ours]
    found += [best_of(row for row in rows if row["peer"] and row["layout"] == layout) for layout in layouts]
    fastest = min((row["seconds"] for row in found if row is not None), default=0.0)
    cells = [cell_of(row, fastest) for row in found]
    for name, cell in zip(ours, cells, strict=False):  # the cells after ours are the peers'
        if (first["group"], name) in missing:
            cell["name"] = "not timed"
    return {
        "work": [first["direction"], first["dtype"], first["size"]],
        "limit": duration(first["roof_seconds"]),
        "bound_by": first["bound_by"],
        "cells": cells,
    }


def best_of(rows: Iterable[Row]) -> Row | None:
    """The fastest peer that is right: a fast wrong kernel is no bar."""
    return min((row for row in rows if not row["wrong"]), key=lambda row: row["seconds"], default=None)


def cell_of(row: Row | None, fastest: float) -> Cell:
    if row is None:
        return {"time": "", "share": "", "width": 0, "name": "", "fastest": False}
    share = number(row["share"])
    return {
        "time": duration(row["seconds"]),
        "share": share_of(row),
        "width": round(100 * min(share, 1.0), 1),
        "name": row["implementation"] if row["peer"] else "",
        "fastest": row["seconds"] <= fastest,
    }


def share_of(row: Row) -> str:
    return f"{100 * number(row['share']):.3g}\u00a0%"


def peer_row(row: Row) -> dict[str, str]:
    """One peer's time, and what it was worth."""
    held = used(row["budget"]) if row["budget"] is not None else ""
    return {"name": row["implementation"], "layout": row["layout"], "work": row["group"],
            "time": duration(row["seconds"]), "share": share_of(row), "held": held,
            "state": "fail" if row["wrong"] else "pass"}  # fmt: skip


# ---- text ----------------------------------------------------------------------------------
def markdown_of(timings: dict[str, Any]) -> str:
    """The tables as Markdown, for a README."""
    speeds = speeds_of(timings)
    lines = [f"Measured {speeds['created'][:10]} on {speeds['title']}: {speeds['rates']} ({speeds['software']}).",
             "Time of one call and share of the limit; the fastest in bold, wrong peers apart.", ""]  # fmt: skip
    for table in speeds["tables"]:
        lines += [f"**{table['op']}**", "", "| direction, dtype, size | limit | " + " | ".join(table["columns"]) + " |",
                  "|---|---|" + "---|" * len(table["columns"])]  # fmt: skip
        for row in table["rows"]:
            cells = " | ".join(_text(cell) for cell in row["cells"])
            lines.append(f"| {', '.join(row['work'])} | {row['limit']} ({row['bound_by']}) | {cells} |")
        lines.append("")
    wrong = {f"- wrong: {peer['name']} ({peer['layout']}), {peer['work']}, {peer['held']} its bound": None
             for peer in speeds["peers"] if peer["state"] == "fail"}  # fmt: skip
    lines += [*wrong, *(f"- {line}" for line in speeds["untimed"])]
    return "\n".join([*lines, *(f"- **{problem}**" for problem in speeds["problems"])]).rstrip() + "\n"


def _text(cell: Cell) -> str:
    if not cell["time"]:
        return cell["name"]
    text = f"{cell['time']}, {cell['share']}" + (f" ({cell['name']})" if cell["name"] else "")
    return f"**{text}**" if cell["fastest"] else text
