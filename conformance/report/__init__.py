"""What does a result document look like as a page?

``write_report`` draws one self-contained HTML file from the document of ``result.json``, with the times of
``benchmarks.json`` where they are given, and nothing else: no network, no scripts, fonts of the reader's machine.
``view.py`` decides what is said, ``sections.py`` what of each clause, ``speeds.py`` what of the times; ``cells.py`` sums
records up, ``wording.py`` turns values into words, ``figures.py`` and ``speed_figures.py`` draw; ``report.html``,
``speeds.html`` and ``report.css`` set the page. ``difference.py`` compares two documents in the terminal.
"""

from pathlib import Path
from typing import Any

import jinja2

from mmrec.conformance.report.speeds import speeds_of
from mmrec.conformance.report.view import page_of
from mmrec.conformance.report.wording import breakable

__all__ = ["render", "write_report"]

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters["breakable"] = breakable


def render(document: dict[str, Any], timings: dict[str, Any] | None = None) -> str:
    """The page, as one HTML text."""
    speeds = speeds_of(timings) if timings else None
    return _ENVIRONMENT.get_template("report.html").render(page_of(document), speeds=speeds)


def write_report(document: dict[str, Any], path: Path, timings: dict[str, Any] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(document, timings), encoding="utf-8")
