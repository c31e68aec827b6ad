"""How does the error grow with the number of steps? Small multiples in SVG: a row a subject, a column a dtype.

Where arrays are stored in the format of the arithmetic, the error and the allowed error are drawn, both relative to the
largest exact value, on logarithmic axes. In narrower formats the rounding to storage, which NUM-3 does not count, would
hide the error, so the share of the budget is drawn. The pictures show trends; verdicts are given element by element.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from markupsafe import Markup

from mmrec.conformance.report.cells import badness, state_of
from mmrec.conformance.report.wording import power_of_ten, used
from mmrec.conformance.result import number
from mmrec.numerics.formats import FORMATS, arithmetic_of

# The check whose series is drawn, and the one whose long sequences continue it.
DRAWN = {
    "every_value_is_within_its_bound": "long_sequences_stay_within_the_same_bound",
    "every_gradient_is_within_its_bound": "long_gradients_stay_within_the_same_bound",
}
WIDTH, HEIGHT = 296, 168  # one panel with its margins
LEFT, RIGHT, TOP, BOTTOM = 42, 274, 24, 144  # the plotting area
ZERO_LANE = 20  # between the logarithmic axis and the bottom: errors that are exactly 0

Records = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Point:
    steps: int
    error: float
    allowed: float
    budget: float


def error_figure(op: str, what: str, records: Records, subjects: Iterable[str], name: str) -> Markup:
    """One SVG for the records of one op; empty where no record has a series. ``name`` makes its ids unique."""
    cells: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        if record["series"]:
            cells[record["subject"], record["dtype"]].append(record)
    rows = [subject for subject in subjects if any(of == subject for of, _ in cells)]
    columns = [dtype for dtype in FORMATS if any(of == dtype for _, of in cells)]
    if not rows:
        return Markup("")
    panels, described = [], []
    for column, dtype in enumerate(columns):
        points = {subject: points_of(cells[subject, dtype]) for subject in rows}
        scale = scale_of(dtype, [point for some in points.values() for point in some])
        for row, subject in enumerate(rows):
            worst = max(cells[subject, dtype], key=badness, default=None)
            budget = ("✕ " if state_of(worst) == "fail" else "") + used(worst["budget"]) if worst else "not run"
            described.append(f"{subject}, {dtype}: {budget}")
            inside = panel(f"{subject}, {dtype}", budget, points[subject], scale)
            panels.append(f'<g transform="translate({column * WIDTH} {row * HEIGHT})">{inside}</g>')
    summary = f"Largest share of the budget used. {'; '.join(described)}."
    title = f"{op}: error of {what} against the number of steps T"
    return Markup(
        f'<svg class="figure" viewBox="0 0 {WIDTH * len(columns)} {HEIGHT * len(rows)}" role="img" '
        f'style="max-width:{WIDTH * len(columns)}px" aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(summary)}</desc>'
        f"{''.join(panels)}</svg>"
    )


def points_of(records: Records) -> list[Point]:
    """The series of these records, by T."""
    points = [Point(int(steps), number(at["error"]), number(at["allowed"]), number(at["budget"]))
              for record in records for steps, at in record["series"].items()]  # fmt: skip
    return sorted((point for point in points if point.steps > 0), key=lambda point: point.steps)


# ---- axes ----------------------------------------------------------------------------------
@dataclass(frozen=True)
class Errors:
    """Errors by powers of ten, and a lane at the bottom for exact zeros."""

    last_steps: int
    low: int
    high: int

    def height(self, size: float) -> float:
        if size == 0:
            return BOTTOM - ZERO_LANE / 3
        share = (math.log10(size) - self.low) / (self.high - self.low) if math.isfinite(size) else 1.0
        return round(BOTTOM - ZERO_LANE - min(max(share, 0.0), 1.0) * (BOTTOM - ZERO_LANE - TOP), 1)

    def drawn(self, point: Point) -> float:
        return self.height(point.error)

    def limit(self, point: Point) -> float:
        return self.height(point.allowed)

    def ticks(self) -> list[tuple[float, str]]:
        step = max(1, math.ceil((self.high - self.low) / 4))
        decades = range(self.low, self.high + 1, step)
        return [(self.height(0.0), "0"), *((self.height(10.0**decade), power_of_ten(decade)) for decade in decades)]


@dataclass(frozen=True)
class Shares:
    """Shares of the budget, up to a little more than all of it."""

    last_steps: int

    def height(self, share: float) -> float:
        share = 1.15 if not share <= 1.15 else share
        return round(BOTTOM - 6 - share / 1.15 * (BOTTOM - 6 - TOP), 1)

    def drawn(self, point: Point) -> float:
        return self.height(point.budget)

    def limit(self, point: Point) -> float:
        return self.height(1.0)

    def ticks(self) -> list[tuple[float, str]]:
        return [(self.height(share), f"{100 * share:.0f} %") for share in (0.0, 0.5, 1.0)]


def scale_of(dtype: str, points: Sequence[Point]) -> Errors | Shares:
    """The axes that all subjects share in this dtype."""
    last_steps = max((point.steps for point in points), default=1)
    if arithmetic_of(FORMATS[dtype]) is not FORMATS[dtype]:
        return Shares(last_steps)
    sizes = [size for point in points for size in (point.error, point.allowed) if 0 < size < math.inf] or [1.0]
    low, high = math.floor(math.log10(min(sizes))), math.ceil(math.log10(max(sizes)))
    return Errors(last_steps, low, max(high, low + 1))


def across(steps: int, last_steps: int) -> float:
    """T by powers of two."""
    return round(LEFT + 8 + math.log2(steps) / max(math.log2(last_steps), 1.0) * (RIGHT - LEFT - 16), 1)


# ---- one panel -----------------------------------------------------------------------------
def panel(title: str, budget: str, points: Sequence[Point], scale: Errors | Shares) -> str:
    """Axes, the allowed error as a line with what is forbidden shaded above it, errors as dots, failures as crosses."""
    parts = [text("panel-title", LEFT, 15, title), text("panel-budget", RIGHT, 15, budget)]
    if points:
        parts.append(forbidden(points, scale))
    for y, label in scale.ticks():
        parts.append(f'<path class="grid" d="M{LEFT} {y}H{RIGHT}"/>' + text("y", LEFT - 5, y + 3.5, label))
    for steps in lengths(scale.last_steps):
        parts.append(text("x", across(steps, scale.last_steps), BOTTOM + 14, f"{steps:,}"))
    parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}"/>' + text("x", RIGHT + 8, BOTTOM + 3.5, "T"))
    parts.append(errors(points, scale) if points else text("x", (LEFT + RIGHT) / 2, (TOP + BOTTOM) / 2, "not run"))
    return "".join(parts)


def text(kind: str, x: float, y: float, words: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}">{escape(words)}</text>'


def lengths(last_steps: int) -> list[int]:
    """At most six powers of two to mark on the axis of T."""
    powers = range(int(math.log2(last_steps)) + 1)
    return [2**power for power in powers if power % max(1, math.ceil(len(powers) / 6)) == 0]


def forbidden(points: Sequence[Point], scale: Errors | Shares) -> str:
    places = [(across(point.steps, scale.last_steps), scale.limit(point)) for point in points]
    left, right = round(places[0][0] - 6, 1), round(places[-1][0] + 6, 1)  # a little beyond the first and the last T
    line = " ".join(f"{x},{y}" for x, y in [(left, places[0][1]), *places, (right, places[-1][1])])
    area = f"{left},{TOP} {line} {right},{TOP}"
    return f'<polygon class="forbidden" points="{area}"/><polyline class="allowed" points="{line}"/>'


def errors(points: Sequence[Point], scale: Errors | Shares) -> str:
    places = [(across(point.steps, scale.last_steps), scale.drawn(point), point.budget <= 1) for point in points]
    line = " ".join(f"{x},{y}" for x, y, _ in places)
    dots = "".join(f"M{x} {y}h0" for x, y, conforms in places if conforms)
    crosses = "".join(f"M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8" for x, y, conforms in places if not conforms)
    drawn = f'<polyline class="error" points="{line}"/><path class="dots" d="{dots}"/>'
    return drawn + (f'<path class="crosses" d="{crosses}"/>' if crosses else "")
