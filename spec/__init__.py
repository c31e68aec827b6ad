"""Which clauses does the specification have, and which statements of the sources do they answer?

Reads the Markdown files beside it. A chapter holds clauses (`README.md` says in which form), `ledger.md` what the
source documents state, `discrepancies.md` how their contradictions are decided.
"""

from functools import cache
from pathlib import Path

from ._parse import Clause, Contradiction, Item, join_chapters, parse_chapter, parse_discrepancies, parse_ledger

__all__ = ["SPEC_VERSION", "Clause", "Contradiction", "Item", "clauses", "contradictions", "coverage", "ledger"]

SPEC_VERSION = "0.1"

_FOLDER = Path(__file__).parent
_NOT_CHAPTERS = ("README", "ledger", "discrepancies")


def clauses() -> dict[str, Clause]:
    """Every clause by id, chapter by chapter in alphabetical order. Raises ValueError naming file and line."""
    return dict(_clauses())


def ledger() -> dict[str, Item]:
    """Every statement of the sources by id. Raises ValueError naming file and line."""
    return dict(_ledger()[0])


def contradictions() -> dict[str, Contradiction]:
    """Every contradiction by id, as the ledger states it. Raises ValueError naming file and line."""
    return dict(_ledger()[1])


def coverage() -> dict[str, str]:
    """For every item and contradiction: "clause", "covered by <clause id>" or "open: <chapter>"."""
    found, (items, disputes, chapters) = _clauses(), _ledger()
    covered_by = {id: clause.id for clause in found.values() for id in clause.covers}
    answers = {}
    for id in items:
        if id in found:
            answers[id] = "clause"
        elif id in covered_by:
            answers[id] = f"covered by {covered_by[id]}"
        else:
            answers[id] = f"open: {chapters[id]}"
    file = "discrepancies.md"
    return answers | parse_discrepancies(_read(file), file, disputes, set(found), set(chapters.values()))


# ---- reading ---------------------------------------------------------------------------
def _read(file: str) -> str:
    return (_FOLDER / file).read_text(encoding="utf-8")


@cache
def _ledger() -> tuple[dict[str, Item], dict[str, Contradiction], dict[str, str]]:
    return parse_ledger(_read("ledger.md"), "ledger.md")


@cache
def _clauses() -> dict[str, Clause]:
    files = sorted(path.name for path in _FOLDER.glob("*.md") if path.stem not in _NOT_CHAPTERS)
    return join_chapters([(file, parse_chapter(_read(file), file)) for file in files], set(_ledger()[0]))
