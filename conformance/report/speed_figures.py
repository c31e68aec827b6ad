"""How near is each implementation to what the device allows, and how does that change with T, B and D? Two SVGs."""

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from markupsafe import Markup

from mmrec.conformance.report.figures import text
from mmrec.conformance.report.wording import duration, power_of_ten
from mmrec.conformance.result import number

Row = dict[str, Any]

WIDTH, HEIGHT = 560, 400  # a panel of the roofline
LEFT, RIGHT, TOP, BOTTOM = 48, 544, 84, 362
SMALL_WIDTH, SMALL_HEIGHT = 372, 214  # a panel of the scaling figure
LETTER = 6  # about the width of one
S_LEFT, S_RIGHT, S_TOP, S_BOTTOM = 48, 300, 26, 184
SERIES = 4  # shapes and colours there are; a fifth implementation shares the first's
SHAPES = ("M{x} {y}m-3.6 0a3.6 3.6 0 1 0 7.2 0a3.6 3.6 0 1 0 -7.2 0", "M{x} {y}m-3.4 -3.4h6.8v6.8h-6.8z",
          "M{x} {y}m0 -4.4l4.2 7.6h-8.4z", "M{x} {y}m0 -4.8l4.4 4.8l-4.4 4.8l-4.4 -4.8z")  # fmt: skip


def ours_of(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(row["implementation"] for row in rows if not row["peer"]))


def mark(place: int, x: float, y: float, title: str) -> str:
    """One measurement; its title is shown where the page is pointed at."""
    shape = SHAPES[place % SERIES].format(x=round(x, 1), y=round(y, 1))
    return f'<g><title>{escape(title)}</title><path class="mark series{place % SERIES}" d="{shape}"/></g>'


def told(row: Row) -> str:
    name = row["implementation"] + (f" ({row['layout']}, peer)" if row["peer"] else "")
    return f"{name}: {row['group']}, {duration(row['seconds'])}, {100 * number(row['share']):.3g} % of the limit"


# ---- the roofline --------------------------------------------------------------------------
def roofline(rows: Sequence[Row], device: dict[str, Any]) -> Markup:
    """Operations per byte against operations a second, both by powers of ten: a panel a dtype, with its two roofs."""
    dtypes = [dtype for dtype in device["product_rates"] if any(row["dtype"] == dtype for row in rows)]
    intensities = [row["operations"] / row["bytes"] for row in rows]
    rates = [row["operations"] / row["seconds"] for row in rows if row["seconds"] > 0]
    x_ends = math.floor(math.log10(min(intensities))), math.ceil(math.log10(max(intensities)))
    y_ends = math.floor(math.log10(min(rates))), math.ceil(math.log10(max(device["product_rates"].values())))
    panels = []
    for column, dtype in enumerate(dtypes):
        inside = roof_panel(dtype, [row for row in rows if row["dtype"] == dtype], rows, device, x_ends, y_ends)
        panels.append(f'<g transform="translate({column * WIDTH} 0)">{inside}</g>')
    total = WIDTH * len(dtypes)
    return Markup(
        f'<svg class="figure" viewBox="0 0 {total} {HEIGHT}" role="img" style="max-width:{total}px" '
        f'aria-labelledby="roofline-title"><title id="roofline-title">Operations a second against operations per byte, '
        f"below the device&#39;s copy rate and its product rate</title>{''.join(panels)}</svg>"
    )


def roof_panel(dtype: str, rows: Sequence[Row], every: Sequence[Row], device: dict[str, Any], x_ends: tuple[int, int],
               y_ends: tuple[int, int]) -> str:  # fmt: skip
    def across(intensity: float) -> float:
        share = (math.log10(intensity) - x_ends[0]) / max(x_ends[1] - x_ends[0], 1)
        return round(LEFT + share * (RIGHT - LEFT), 1)

    def height(rate: float) -> float:
        share = (math.log10(rate) - y_ends[0]) / max(y_ends[1] - y_ends[0], 1)
        return round(BOTTOM - min(max(share, 0.0), 1.0) * (BOTTOM - TOP), 1)

    copy_rate, product_rate = device["copy_rate"], device["product_rates"][dtype]
    corner = product_rate / copy_rate  # operations per byte, from which on the products are the limit
    start = max(10.0 ** x_ends[0], 10.0 ** y_ends[0] / copy_rate)
    roof = f"M{across(start)} {height(start * copy_rate)}"
    if corner < 10.0 ** x_ends[1]:
        roof += f"L{across(corner)} {height(product_rate)}H{RIGHT}"
    else:
        roof += f"L{RIGHT} {height(10.0 ** x_ends[1] * copy_rate)}"
    parts = [text("panel-title", LEFT, 14, f"{dtype}: operations a second"), *labels(rows, across)]
    for power in range(y_ends[0], y_ends[1] + 1):
        y = height(10.0**power)
        parts.append(
            f'<path class="grid" d="M{LEFT} {y}H{RIGHT}"/>' + text("y", LEFT - 5, y + 3.5, power_of_ten(power))
        )
    for power in range(x_ends[0], x_ends[1] + 1):
        parts.append(text("x", across(10.0**power), BOTTOM + 14, power_of_ten(power)))
    parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}"/><path class="allowed" d="{roof}"/>')
    parts.append(text("x", (LEFT + RIGHT) / 2, BOTTOM + 30, "operations per byte"))
    names = ours_of(every)
    for row in sorted(rows, key=lambda row: not row["peer"]):
        x, y = across(row["operations"] / row["bytes"]), height(row["operations"] / row["seconds"])
        if row["peer"]:
            kind = "peer wrong" if row["wrong"] else "peer"
            parts.append(f'<g><title>{escape(told(row))}</title><circle class="{kind}" cx="{x}" cy="{y}" r="2.6"/></g>')
        else:
            parts.append(mark(names.index(row["implementation"]), x, y, told(row)))
    return "".join(parts)


def labels(rows: Sequence[Row], across: Any) -> list[str]:
    """Which ops stand where: a name over each place, in the lowest line where it meets no other."""
    taken: list[tuple[int, float, str]] = []  # line, left end, name
    for x, op in sorted({(across(row["operations"] / row["bytes"]), row["op"]) for row in rows}):
        if not any(name == op and abs(x - left) < 90 for _, left, name in taken):
            x = min(x, RIGHT - LETTER * len(op))
            line = next(line for line in itertools.count()
                        if all(other != line or left + LETTER * len(name) < x for other, left, name in taken))  # fmt: skip
            taken.append((line, x, op))
    return [text("start", x, TOP - 8 - 11 * line, op) for line, x, op in taken]


# ---- scaling -------------------------------------------------------------------------------
def scaling_figure(rows: Sequence[Row]) -> Markup:
    """Share of the limit against one length at a time: a row of panels an op, a column an axis."""
    by_op: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_op[row["op"]].append(row)
    if not by_op:
        return Markup("")
    panels = []
    for line, some in enumerate(by_op.values()):
        base = base_of(some)
        shares = [number(row["share"]) for row in some]
        lowest = min(-1, math.floor(math.log10(min(shares)))) if min(shares) > 0 else -4
        for column, axis in enumerate("TBD"):
            on_axis = [
                row for row in some if all(row["lengths"][letter] == base[letter] for letter in "TBD" if letter != axis)
            ]
            inside = scaling_panel(axis, base, on_axis, ours_of(rows), lowest)
            panels.append(f'<g transform="translate({column * SMALL_WIDTH} {line * SMALL_HEIGHT})">{inside}</g>')
    width, height = 3 * SMALL_WIDTH, SMALL_HEIGHT * len(by_op)
    return Markup(
        f'<svg class="figure" viewBox="0 0 {width} {height}" role="img" style="max-width:{width}px" '
        f'aria-labelledby="scaling-title"><title id="scaling-title">Share of the limit against T, B and D</title>'
        f"{''.join(panels)}</svg>"
    )


def base_of(rows: Sequence[Row]) -> dict[str, int]:
    """The lengths from which the others depart in one letter: the most frequent of each."""
    counted = {letter: [row["lengths"][letter] for row in rows] for letter in "TBD"}
    return {
        letter: max(set(some), key=lambda length: (some.count(length), -length)) for letter, some in counted.items()
    }


def scaling_panel(axis: str, base: dict[str, int], rows: Sequence[Row], names: Sequence[str], lowest: int) -> str:
    sizes = sorted({row["lengths"][axis] for row in rows})
    ends = math.log2(sizes[0]), math.log2(sizes[-1])

    def across(size: float) -> float:
        return round(S_LEFT + 10 + (math.log2(size) - ends[0]) / max(ends[1] - ends[0], 1) * (S_RIGHT - S_LEFT - 20), 1)

    def height(share: float) -> float:
        part = (math.log10(min(max(share, 10.0**lowest), 2.0)) - lowest) / (math.log10(2.0) - lowest)
        return round(S_BOTTOM - part * (S_BOTTOM - S_TOP), 1)

    fixed = ", ".join(f"{letter} = {base[letter]:,}" for letter in "BTD" if letter != axis)
    parts = [text("panel-title", S_LEFT, 15, f"{rows[0]['op']}, {rows[0]['dtype']}")]
    parts.append(text("panel-budget", S_RIGHT + 66, 15, fixed))
    for power in range(lowest, 1):
        y = height(10.0**power)
        kind = "allowed" if power == 0 else "grid"
        parts.append(f'<path class="{kind}" d="M{S_LEFT} {y}H{S_RIGHT}"/>')
        parts.append(text("y", S_LEFT - 5, y + 3.5, f"{100 * 10.0**power:g} %"))
    for size in sizes:
        parts.append(text("x", across(size), S_BOTTOM + 14, f"{size:,}"))
    parts.append(
        f'<path class="axis" d="M{S_LEFT} {S_TOP}V{S_BOTTOM}H{S_RIGHT}"/>' + text("x", S_RIGHT + 8, S_BOTTOM + 4, axis)
    )
    ends_of_lines = []
    for place, name in enumerate(names):
        own = sorted((row for row in rows if row["implementation"] == name), key=lambda row: row["lengths"][axis])
        points = [(across(row["lengths"][axis]), height(number(row["share"]))) for row in own]
        if points:
            line = " ".join(f"{x},{y}" for x, y in points)
            parts.append(f'<polyline class="line series{place % SERIES}" points="{line}"/>')
            parts += [mark(place, x, y, told(row)) for (x, y), row in zip(points, own, strict=True)]
            ends_of_lines.append((points[-1][1], place, name))
    last = -math.inf
    for y, place, name in sorted(ends_of_lines):
        last = max(y, last + 11)  # names below each other, not over each other
        parts.append(text(f"start name{place % SERIES}", S_RIGHT + 4, last + 3, name))
    return "".join(parts)
