"""How are values, verdicts and the spec's Markdown written for a reader?"""

import json
import math
import re
from collections.abc import Sequence
from typing import Any

from markdown_it import MarkdownIt
from markupsafe import Markup

from mmrec.conformance.result import number

# The closed subset that clauses use. What is not enabled (HTML, links, images) stays text.
_MARKDOWN = MarkdownIt("zero").enable(["code", "fence", "table", "backticks", "list", "emphasis", "escape"])

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def markdown(text: str) -> Markup:
    """A clause's text as HTML; everything that is not of the subset is escaped."""
    return Markup(_MARKDOWN.render(text).replace("<th>", '<th scope="col">'))


def inline(text: str) -> Markup:
    """One paragraph's inside: inline code and emphasis only."""
    return Markup(_MARKDOWN.renderInline(text))


def sentence(check: str) -> str:
    """every_value_is_within_its_bound -> Every value is within its bound."""
    words = check.replace("_", " ")
    return words[:1].upper() + words[1:]


def chapter_name(chapter: str) -> str:
    return sentence(chapter)


def words(verdict: str) -> str:
    return verdict.replace("_", " ")


def used(budget: float | str) -> str:
    """A share of the error budget: 0 %, <1 %, 96 %; beyond the bound 3.5 ×, ∞ ×."""
    share = number(budget)
    if not math.isfinite(share):
        return "∞\u00a0×" if math.isinf(share) else "NaN"
    if share > 1:
        return f"{share:.3g}\u00a0×"
    if 0 < share < 0.01:
        return "<1\u00a0%"
    return f"{100 * share:.0f}\u00a0%"


def breakable(case: str) -> Markup:
    """A case that may be wrapped after each of its parts."""
    return Markup("/<wbr>").join(case.split("/"))


def figure_of(value: float | str | None, digits: int) -> str:
    """A number to that many significant digits, zeros kept so that digits line up; empty where there is none."""
    if value is None:
        return ""
    size = number(value)
    return f"{size:g}" if size == 0 or not math.isfinite(size) else f"{size:#.{digits}g}"


def counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def enumerated(names: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def power_of_ten(exponent: int) -> str:
    return "1" if exponent == 0 else "10" + str(exponent).translate(_SUPERSCRIPT)


def plain_value(value: Any) -> str:
    """A setting as text: yes and no for booleans, JSON for what is nested."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def flatten(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"environment": {"torch": "2.9"}} -> {"environment · torch": "2.9"}; an empty dict keeps its name."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            flat.update(flatten(value, f"{prefix}{name} · "))
        else:
            flat[f"{prefix}{name}"] = "none" if value == {} else value
    return flat


def anchor(kind: str, name: str) -> str:
    """An id within the page, free of anything that HTML or a selector could misread."""
    return f"{kind}-{re.sub(r'[^A-Za-z0-9_-]+', '_', name)}"


def duration(seconds: float) -> str:
    """Three digits and a unit."""
    unit, scale = ("s", 1.0) if seconds >= 1 else ("ms", 1e-3) if seconds >= 1e-3 else ("us", 1e-6)
    return f"{seconds / scale:.3g} {unit}"
