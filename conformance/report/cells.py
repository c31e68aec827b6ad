"""What does a group of records come to? One cell of a table, one verdict on a subject."""

import math
from typing import Any

from mmrec.conformance.report.wording import counted, used, words
from mmrec.conformance.result import number
from mmrec.conformance.summary import severity

Records = list[dict[str, Any]]

PASSES = ("CONFORMS", "WAIVED")
SHADES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)  # upper ends of the colour scale, which has a class for each


def judged(records: Records) -> Records:
    return [r for r in records if not r["left_out"] and r["verdict"] != "NOT_IMPLEMENTED"]


def failed(records: Records) -> Records:
    return [r for r in judged(records) if r["verdict"] not in PASSES]


def badness(record: dict[str, Any]) -> tuple[int, float]:
    """A failure before any budget; a budget that is not a number is worse than all."""
    budget = number(record["budget"])
    return severity(record["verdict"]), math.inf if math.isnan(budget) else budget


def worst_of(records: Records) -> dict[str, Any] | None:
    return max(judged(records), key=badness, default=None)


def state_of(record: dict[str, Any]) -> str:
    if record["left_out"]:
        return "not-run"
    return {"CONFORMS": "pass", "WAIVED": "waived", "NOT_IMPLEMENTED": "absent"}.get(record["verdict"], "fail")


def cell_of(records: Records, *, remark: bool = True) -> dict[str, Any]:
    """State, colour, text and, if wanted, a remark on what a passing cell leaves open."""
    if not records:
        return {"state": "none", "shade": "", "text": "", "note": ""}
    worst = worst_of(records)
    if worst is None:
        absent = sum(state_of(record) == "absent" for record in records)
        if absent == len(records):
            return {"state": "absent", "shade": "", "text": "not implemented", "note": ""}
        note = f"{absent} not implemented" if absent else ""
        return {"state": "not-run", "shade": "", "text": "not run", "note": note}
    state, wrong = state_of(worst), failed(records)
    if state == "fail":
        count = f", {len(wrong)}\u00a0of\u00a0{len(judged(records))}" if len(records) > 1 else ""
        note = f"{words(worst['verdict'])} {used(worst['budget'])}{count}"
        return {"state": state, "shade": "", "text": "✕ fails", "note": note}
    if state == "waived":
        return {"state": state, "shade": "", "text": "◇ waived", "note": used(worst["budget"])}
    return {"state": state, "shade": shade(number(worst["budget"])), "text": used(worst["budget"]),
            "note": gaps(records) if remark else ""}  # fmt: skip


def gaps(records: Records) -> str:
    """What a passing cell leaves open: checks that were not run, or found nothing to call."""
    states = [state_of(record) for record in records]
    missing = {"not run": states.count("not-run"), "not implemented": states.count("absent")}
    return ", ".join(f"{count} {what}" for what, count in missing.items() if count)


def shade(budget: float) -> str:
    return f"shade{next(step for step, end in enumerate((*SHADES[:-1], math.inf)) if budget <= end)}"


def headline(name: str, records: Records, remark: str = "") -> dict[str, str]:
    """The verdict on a subject in one sentence, and what else is to be known of it."""
    all_judged, wrong, worst = judged(records), failed(records), worst_of(records)
    left = gaps([r for r in records if r not in all_judged])
    left = f" Of the other checks, {left}." if left else ""
    left += f" {remark[0].upper()}{remark[1:]}." if remark else ""
    if worst is None:
        return {"name": name, "state": "not-run", "mark": "–", "verdict": "was not judged", "more": "." + left}
    examples = counted(sum(r["examples"] for r in all_judged), "example")
    if wrong:
        more = f": {len(wrong)} of {counted(len(all_judged), 'check')} failed, after {examples}.{left}"
        return {"name": name, "state": "fail", "mark": "✕", "verdict": "does not conform", "more": more}
    waived = sum(r["verdict"] == "WAIVED" for r in all_judged)
    passed = f"{len(all_judged) - waived} of {counted(len(all_judged), 'check')} passed"
    passed += f", {waived} waived" if waived else ""
    budget = f"The worst used {used(worst['budget'])} of its error budget ({worst['op']}, {worst['dtype']})."
    more = f": {passed}, on {examples}. {budget}{left}"
    return {"name": name, "state": "pass", "mark": "✓", "verdict": "conforms", "more": more}
