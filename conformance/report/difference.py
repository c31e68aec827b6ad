"""What changed between two result files? Verdicts first, then what is judged, budgets, claims, and the conditions."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.text import Text

from mmrec.conformance.report.cells import PASSES, state_of
from mmrec.conformance.report.wording import counted, flatten, plain_value, used, words
from mmrec.conformance.result import number

BUDGET_JUMP = 0.25  # a quarter of the budget: draws of the same kernel with other seeds stay well below

KINDS = {
    "regression": "Regressions: conformed, does not any more",
    "new failure": "Failures of what was not judged before",
    "fix": "Fixed: failed, conforms now",
    "verdict": "Other verdicts",
    "no longer judged": "No longer judged",
    "newly judged": "Newly judged, conforming",
    "budget": f"Budgets that moved by more than {100 * BUDGET_JUMP:.0f} % while both conform",
    "claim": "Claims of the sources",
    "text": "Clauses and bounds whose text differs",
    "condition": "Other conditions: environment, assumptions, seed, profile",
}
STYLES = {"regression": "bold red", "new failure": "bold red", "fix": "green", "no longer judged": "yellow"}

Document = dict[str, Any]
Key = tuple[str, str, str, str]  # subject, op, dtype, check


@dataclass(frozen=True)
class Change:
    """One difference: what kind, of what, before and after."""

    kind: str
    what: str
    old: str
    new: str
    replay: str = ""


def compare(old: Document, new: Document) -> list[Change]:
    """Every difference that matters, in the order of ``KINDS``; nothing between equal documents."""
    if renamed := other_name(old, new):
        old = with_name(old, *renamed)
    changes = [*_verdicts(old, new), *_claims(old, new), *_texts(old, new), *_conditions(old, new)]
    return sorted(changes, key=lambda change: list(KINDS).index(change.kind))


def other_name(old: Document, new: Document) -> tuple[str, str] | None:
    """The subject that each document has and the other has not, where it is one in each: the same under another name."""
    gone = [name for name in old["subjects"] if name not in new["subjects"]]
    come = [name for name in new["subjects"] if name not in old["subjects"]]
    return (gone[0], come[0]) if len(gone) == len(come) == 1 else None


def with_name(document: Document, name: str, other: str) -> Document:
    """The document with one of its subjects under another name."""
    subjects = {other if subject == name else subject: about for subject, about in document["subjects"].items()}
    records = [r | {"subject": other} if r["subject"] == name else r for r in document["records"]]
    return document | {"subjects": subjects, "records": records}


def print_difference(old: Document, new: Document, console: Console | None = None) -> bool:
    """Print the changes by kind; whether anything that conformed does not any more."""
    console = console or Console()
    changes = compare(old, new)
    for name, document in (("old", old), ("new", new)):
        about = f"{', '.join(document['subjects'])}, profile {document['profile']}, seed {document['seed']}"
        console.print(Text(f"{name}  {document['created']}, {about}", "dim"), soft_wrap=True)
    if renamed := other_name(old, new):
        was, now = renamed
        console.print(
            Text(f"{was} is only in the old file, {now} only in the new one: compared as one subject"), soft_wrap=True
        )
    if not changes:
        console.print("no difference")
    for kind, title in KINDS.items():
        some = [change for change in changes if change.kind == kind]
        if some:
            console.print()
            console.print(Text(f"{title} ({len(some)})", STYLES.get(kind, "bold")))
            for change in some:
                console.print(_line(change), soft_wrap=True)
    return any(change.kind == "regression" for change in changes)


def _line(change: Change) -> Text:
    line = Text.assemble(f"  {change.what}: ", (change.old, "dim"), " → ", (change.new, "bold"))
    return line.append(f"\n    {change.replay}", "dim") if change.replay else line


# ---- records -------------------------------------------------------------------------------
def _by_key(document: Document) -> dict[Key, dict[str, Any]]:
    return {(r["subject"], r["op"], r["dtype"], r["check"]): r for r in document["records"]}


def _verdicts(old: Document, new: Document) -> list[Change]:
    before, after = _by_key(old), _by_key(new)
    changes: list[Change] = []
    alike: dict[tuple[str, str, str, str], list[Key]] = defaultdict(list)  # changes of many checks for one reason
    for key in dict.fromkeys([*before, *after]):
        one, other = before.get(key), after.get(key)
        was, now = _standing(one), _standing(other)
        kind = _kind(was, now, one, other)
        if "absent" in (was, now) and kind:
            alike[kind, f"{key[0]} {key[1]}", _words(one, brief=True), _words(other, brief=True)].append(key)
        elif kind in ("no longer judged", "newly judged"):
            alike[kind, f"{key[0]}: {_check(key)}", _words(one, brief=True), _words(other, brief=True)].append(key)
        elif kind:
            replay = other["replay"] if other and kind in ("regression", "new failure") else ""
            changes.append(Change(kind, _name(key, other or one), _words(one), _words(other), replay))
    for (kind, what, was, now), keys in alike.items():
        changes.append(Change(kind, f"{what} ({counted(len(keys), 'check')})", was, now))
    return changes


def _standing(record: dict[str, Any] | None) -> str:
    """pass, fail, absent (not implemented), or unjudged: left out, or not in the file."""
    if record is None or record["left_out"]:
        return "unjudged"
    return "absent" if state_of(record) == "absent" else "pass" if record["verdict"] in PASSES else "fail"


def _kind(was: str, now: str, old: dict[str, Any] | None, new: dict[str, Any] | None) -> str:
    """What the step from one standing to another is called; empty where nothing changed."""
    judged = ("pass", "fail")
    if was not in judged and now not in judged:
        return ""
    if was == "pass" and now in ("fail", "absent"):
        return "regression"
    if now not in judged:
        return "no longer judged"
    if was not in judged:
        return "newly judged" if now == "pass" else "new failure"
    if was != now:
        return "fix"
    assert old is not None and new is not None
    if old["verdict"] != new["verdict"]:
        return "verdict"
    return "budget" if was == "pass" and abs(number(new["budget"]) - number(old["budget"])) > BUDGET_JUMP else ""


def _check(key: Key) -> str:
    return key[3].replace("_", " ")


def _name(key: Key, record: dict[str, Any] | None) -> str:
    clauses = ", ".join(record["clauses"]) if record else ""
    return f"{' '.join(key[:3])}, {_check(key)} ({clauses})"


def _words(record: dict[str, Any] | None, *, brief: bool = False) -> str:
    """A record's outcome; in brief without its budget, so that many can be told in one line."""
    if record is None:
        return "not in the file"
    if record["left_out"]:
        return f"not run: {record['left_out']}"
    if state_of(record) == "absent":
        return "not implemented"
    if brief:
        return "conforming" if record["verdict"] in PASSES else "failing"
    if record["verdict"] == "CONFORMS":
        return used(record["budget"])
    return f"{words(record['verdict'])} {used(record['budget'])}"


# ---- everything else -----------------------------------------------------------------------
def _claims(old: Document, new: Document) -> list[Change]:
    def outcomes(document: Document) -> dict[str, str]:
        return {f"{e['clause']}: {e['claim']}": e["outcome"] for e in document["experiments"]}

    was, now = outcomes(old), outcomes(new)
    both = [claim for claim in was if claim in now]
    return [Change("claim", claim, was[claim], now[claim]) for claim in both if was[claim] != now[claim]]


def _texts(old: Document, new: Document) -> list[Change]:
    """Which texts differ; the texts themselves are in the files."""
    changes = []
    for group, field, noun in (("clauses", "text", "clause"), ("ops", "bound", "bound of")):
        for name, one in old[group].items():
            if name in new[group] and one[field] != new[group][name][field]:
                changes.append(Change("text", f"{noun} {name}", "one text", "another"))
    return changes


def _conditions(old: Document, new: Document) -> list[Change]:
    def conditions(document: Document, other: Document) -> dict[str, Any]:
        both = {name: about for name, about in document["subjects"].items() if name in other["subjects"]}
        run = {name: document[name] for name in ("schema", "suite", "spec", "profile", "seed")}
        groups = {"machine": document["machine"], "assumption": document["assumptions"], "subject": both}
        return flatten({**run, **{name: value for name, value in groups.items() if value}})

    was, now = conditions(old, new), conditions(new, old)
    changes = []
    for name in dict.fromkeys([*was, *now]):
        before, after = (plain_value(some[name]) if name in some else "not set" for some in (was, now))
        if before != after:
            changes.append(Change("condition", name, before, after))
    return changes
