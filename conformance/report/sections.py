"""What does the page say of each clause? Its text, its bound, who was asked what, and the worst that was found."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from markupsafe import Markup

from mmrec.conformance.report.cells import Records, badness, cell_of, counted, failed, judged, state_of, worst_of
from mmrec.conformance.report.figures import DRAWN, error_figure
from mmrec.conformance.report.wording import anchor, chapter_name, figure_of, markdown, sentence, used, words
from mmrec.conformance.summary import rows_of

Rows = dict[tuple[str, ...], dict[str, Records]]

UNKNOWN = {"title": "", "kind": "unknown", "chapter": "Not in the spec's text", "text": "", "source": ""}


def chapters_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Chapters in the spec's order, each with its clauses; clauses that are cited but not stated come last."""
    rows = rows_of(document)
    cited = [clause for clauses in rows for clause in clauses]
    claims = {experiment["clause"] for experiment in document["experiments"]} - set(cited)  # these have their section
    every = dict.fromkeys(name for name in [*document["clauses"], *cited] if name not in claims)
    homes = bound_homes(document, rows)
    chapters: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for name in every:
        clause = document["clauses"].get(name, UNKNOWN)
        chapters[clause["chapter"]].append(clause_section(document, name, clause, rows, homes))
    return [{"name": chapter_name(name), "anchor": anchor("chapter", name), "clauses": clauses}
            for name, clauses in chapters.items()]  # fmt: skip


def clause_section(
    document: dict[str, Any], name: str, clause: dict[str, Any], rows: Rows, homes: dict[str, str]
) -> dict[str, Any]:
    """Checks that show several clauses at once are listed under the first of them; the others point there."""
    subjects = list(document["subjects"])
    showing = {clauses: by_subject for clauses, by_subject in rows.items() if name in clauses}
    own = [records for clauses, by_subject in showing.items() if clauses[0] == name for records in by_subject.values()]
    records = [record for by_subject in showing.values() for cell in by_subject.values() for record in cell]
    ops = dict.fromkeys(r["op"] for r in records if r["worst"].get("tolerance") or homes.get(r["op"]) == name)
    return {
        "id": name,
        "anchor": anchor("clause", name),
        "title": clause["title"],
        "kind": clause["kind"],
        "text": markdown(clause["text"]),
        "source": clause["source"],
        "verdicts": [{"subject": s, "cell": cell_of([r for r in records if r["subject"] == s])} for s in subjects],
        "elsewhere": [{"id": c[0], "anchor": anchor("clause", c[0])} for c in showing if c[0] != name],
        "bounds": [bound_of(document, op, name, homes) for op in ops if op in document["ops"]],
        "checks": checks_of(document, name, [record for cell in own for record in cell]),
    }


# ---- bounds --------------------------------------------------------------------------------
def bound_homes(document: dict[str, Any], rows: Rows) -> dict[str, str]:
    """The clause under which an op's bound is printed: the one that its values are judged by."""
    homes = {}
    for clauses, by_subject in rows.items():
        for op in {record["op"] for cell in by_subject.values() for record in cell} & set(document["ops"]):
            own = document["ops"][op].get("clauses", [])
            if clauses and (op not in homes or (own and clauses[0] == own[0])):
                homes[op] = clauses[0]
    return homes


def bound_of(document: dict[str, Any], op: str, clause: str, homes: dict[str, str]) -> dict[str, str]:
    home = homes.get(op, clause)
    text = document["ops"][op]["bound"].strip() if home == clause else ""
    return {"op": op, "home": home, "anchor": anchor("clause", home), "text": text}


# ---- checks --------------------------------------------------------------------------------
def checks_of(document: dict[str, Any], clause: str, records: Records) -> list[dict[str, Any]]:
    by_check: dict[str, Records] = defaultdict(list)
    for record in records:
        by_check[record["check"]].append(record)
    return [check_section(document, clause, check, some) for check, some in by_check.items()]


def check_section(document: dict[str, Any], clause: str, check: str, records: Records) -> dict[str, Any]:
    subjects = [subject for subject in document["subjects"] if any(r["subject"] == subject for r in records)]
    by_subject = {subject: [r for r in records if r["subject"] == subject] for subject in subjects}
    asked = [record for record in records if not record["left_out"]]
    return {
        "name": sentence(check),
        "summary": [summary_row(subject, some) for subject, some in by_subject.items()],
        "every": [record_row(record) for record in sorted(asked, key=place)] if len(asked) > len(subjects) else [],
        "fails": bool(failed(records)),
        "not_run": sorted({record["left_out"] for record in records if record["left_out"]}),
        "figures": figures_of(document, clause, check, records),
    }


def place(record: dict[str, Any]) -> tuple[Any, ...]:
    """Failures first, then by op, dtype and subject."""
    return state_of(record) != "fail", record["op"], record["dtype"], record["subject"]


def summary_row(subject: str, records: Records) -> dict[str, Any]:
    """One subject's part in a check: how many passed, and the record that came closest to failing or failed worst."""
    all_judged, worst = judged(records), worst_of(records)
    passed = len(all_judged) - len(failed(records))
    return {
        "subject": subject,
        "cell": cell_of(records),
        "passed": f"{passed} of {len(all_judged)}" if all_judged else "",
        "examples": f"{sum(r['examples'] for r in all_judged):,}" if all_judged else "",
        "worst": record_row(worst) if worst else None,
    }


def record_row(record: dict[str, Any]) -> dict[str, Any]:
    """A record and its worst finding as text."""
    worst, digits = record["worst"], 17 if record["dtype"] == "float64" else 10
    return {
        "check": sentence(record["check"]),
        "clauses": [{"id": clause, "anchor": anchor("clause", clause)} for clause in record["clauses"]],
        "subject": record["subject"],
        "op": record["op"],
        "dtype": record["dtype"],
        "state": state_of(record),
        "verdict": words(record["verdict"]),
        "budget": used(record["budget"]) if state_of(record) != "absent" else "",
        "cell": cell_of([record]),
        "examples": f"{record['examples']:,}",
        "where": worst.get("where") or "",
        "got": figure_of(worst.get("got"), digits),
        "expected": figure_of(worst.get("expected"), digits),
        "tolerance": figure_of(worst.get("tolerance"), 3),
        "case": worst.get("case") or "",
        "message": worst.get("message") or "",
        "replay": record["replay"],
    }


def figures_of(document: dict[str, Any], clause: str, check: str, records: Records) -> list[Markup]:
    """A figure for each op, if this is a check of values or gradients; its long sequences continue the series."""
    if check not in DRAWN:
        return []
    what = "values" if "value" in check else "gradients"
    drawn = []
    for op in dict.fromkeys(record["op"] for record in records):
        continued = [r for r in document["records"] if r["op"] == op and r["check"] == DRAWN[check]]
        own = [record for record in records if record["op"] == op]
        name = anchor("figure", f"{clause}-{check}-{op}")
        drawn.append(error_figure(op, what, own + continued, document["subjects"], name))
    return [figure for figure in drawn if figure]


# ---- failures ------------------------------------------------------------------------------
def failures_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Every failing record, the worst first within each subject."""
    order = {subject: place for place, subject in enumerate(document["subjects"])}
    wrong = sorted(failed(document["records"]), key=badness, reverse=True)
    return [record_row(record) for record in sorted(wrong, key=lambda r: order.get(r["subject"], len(order)))]


def unjudged_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Why checks reached no verdict: for each reason, which checks, and how many of each subject."""
    reasons: dict[tuple[str, str], Records] = defaultdict(list)
    for record in document["records"]:
        state = state_of(record)
        if state in ("not-run", "absent"):
            message = record["left_out"] or record["worst"].get("message", "")
            reasons[{"not-run": "not run", "absent": "not implemented"}[state], message].append(record)
    return [
        {
            "word": word,
            "reason": reason,
            "checks": several({record["check"].replace("_", " ") for record in records}),
            "ops": some_of({record["op"] for record in records}, document["ops"]),
            "counts": [counted_for(subject, records) for subject in document["subjects"]],
        }
        for (word, reason), records in sorted(reasons.items())
    ]


def several(checks: set[str]) -> str:
    return ", ".join(sorted(checks)) if len(checks) < 6 else f"{len(checks)} different ones"


def some_of(ops: set[str], every: Iterable[str]) -> str:
    return "all" if ops >= set(every) else ", ".join(sorted(ops))


def counted_for(subject: str, records: Records) -> str:
    count = sum(record["subject"] == subject for record in records)
    return counted(count, "check") if count else ""
