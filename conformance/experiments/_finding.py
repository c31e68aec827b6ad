"""From a claim's statements to its outcome."""

from collections.abc import Mapping
from typing import Any

from mmrec.spec import clauses


def finding(
    clause: str, claim: str, statements: Mapping[str, Any], found: str, numbers: Mapping[str, Any]
) -> dict[str, Any]:
    """The record of one experiment; its source is the clause's, without the mark of our own decision."""
    source = clauses()[clause].source.partition("; decided here")[0]
    held = {sentence: bool(holds) for sentence, holds in statements.items()}
    return {"clause": clause, "claim": claim, "source": source, "outcome": outcome(held), "found": found,
            "numbers": dict(numbers), "statements": held}  # fmt: skip


def outcome(statements: Mapping[str, bool]) -> str:
    if all(statements.values()):
        return "reproduced"
    return "qualified" if any(statements.values()) else "refuted"
