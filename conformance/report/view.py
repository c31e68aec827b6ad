"""What does the page say? The result document as the few tables and lists that the template sets."""

from collections import defaultdict
from itertools import pairwise
from typing import Any

from mmrec.conformance.report.cells import SHADES, cell_of, headline
from mmrec.conformance.report.sections import UNKNOWN, chapters_of, failures_of, unjudged_of
from mmrec.conformance.report.wording import anchor, chapter_name, enumerated, flatten, inline, markdown, plain_value
from mmrec.conformance.summary import how_far_interpreted, rows_of
from mmrec.numerics.formats import FORMATS

OUTCOMES = {"reproduced": "✓ reproduced", "refuted": "✕ refuted", "qualified": "± qualified"}


def page_of(document: dict[str, Any]) -> dict[str, Any]:
    subjects = list(document["subjects"])
    waived = [r for r in document["records"] if r["verdict"] == "WAIVED"]
    return {
        "title": f"Conformance of {enumerated(subjects) or 'nothing'}",
        "run": document,
        "subjects": subjects,
        "headlines": [headline(s, [r for r in document["records"] if r["subject"] == s], how_far_interpreted(document, s))
                      for s in subjects],
        "failures": failures_of(document),
        "legend": legend(waived=bool(waived)),
        "matrix": matrix_of(document),
        "ops": op_matrix_of(document),
        "unjudged": unjudged_of(document),
        "chapters": chapters_of(document),
        "experiments": experiments_of(document),
        "outcomes": enumerated([f"{count} {outcome}" for outcome in OUTCOMES
                                if (count := sum(e["outcome"] == outcome for e in document["experiments"]))]),
        "assumptions": assumptions_of(document),
        "environment": environment_of(document),
        "machine": {name: plain_value(value) for name, value in flatten(document["machine"]).items()},
    }  # fmt: skip


def legend(*, waived: bool) -> list[dict[str, str]]:
    """The scale of colours, then everything that is not a budget."""
    ends = ["0 %", *(f"{100 * low:.0f} – {100 * high:.0f} %" for low, high in pairwise(SHADES))]
    scale = [{"state": "pass", "shade": f"shade{step}", "text": text} for step, text in enumerate(ends)]
    words = {"fail": "✕ fails", "waived": "◇ waived", "not-run": "not run", "absent": "not implemented"}
    if not waived:
        del words["waived"]
    return scale + [{"state": state, "shade": "", "text": text} for state, text in words.items()]


# ---- matrices ------------------------------------------------------------------------------
def matrix_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Clauses by subject, chapter by chapter."""
    chapters: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for clauses, by_subject in rows_of(document).items():
        first = document["clauses"].get(clauses[0], UNKNOWN) if clauses else UNKNOWN
        more = f", and {len(clauses) - 1} more" if len(clauses) > 1 else ""
        chapters[first["chapter"]].append({
            "clauses": [{"id": clause, "anchor": anchor("clause", clause)} for clause in clauses],
            "title": (first["title"] or "not stated in this result file") + more,
            "cells": [cell_of(by_subject.get(subject, [])) for subject in document["subjects"]],
        })  # fmt: skip
    return [{"name": chapter_name(name), "anchor": anchor("chapter", name), "rows": rows}
            for name, rows in chapters.items()]  # fmt: skip


def op_matrix_of(document: dict[str, Any]) -> dict[str, Any]:
    """Ops by dtype, subject by subject: the worst over all clauses."""
    cells: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for record in document["records"]:
        cells[record["op"], record["subject"], record["dtype"]].append(record)
    dtypes = [dtype for dtype in FORMATS if any(of == dtype for _, _, of in cells)]
    columns = [(subject, dtype) for subject in document["subjects"] for dtype in dtypes]
    rows = [{"op": op, "cells": [cell_of(cells.get((op, *column), []), remark=False) for column in columns]}
            for op in dict.fromkeys(op for op, _, _ in cells)]  # fmt: skip
    return {"dtypes": dtypes, "rows": rows}


# ---- the rest ------------------------------------------------------------------------------
def experiments_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Claims of the sources, and what came of them."""
    return [
        {
            "clause": experiment["clause"],
            "anchor": anchor("experiment", f"{place}-{experiment['clause']}"),
            "claim": inline(experiment["claim"]),
            "source": experiment["source"],
            "outcome": experiment["outcome"],
            "word": OUTCOMES[experiment["outcome"]],
            "found": inline(experiment["found"]),
            "title": document["clauses"].get(experiment["clause"], UNKNOWN)["title"],
            "text": markdown(document["clauses"].get(experiment["clause"], UNKNOWN)["text"]),
            "statements": {name: plain_value(value) for name, value in experiment.get("statements", {}).items()},
            "tables": tables_of(experiment.get("numbers", {})),
        }
        for place, experiment in enumerate(document["experiments"])
    ]


def tables_of(numbers: dict[str, Any]) -> list[dict[str, Any]]:
    """Numbers as tables: groups of the same quantities side by side, everything else one below the other."""
    groups: dict[tuple[str, ...], dict[str, Any]] = defaultdict(dict)
    for name, value in numbers.items():
        if isinstance(value, dict) and value:
            groups[tuple(value)][name] = value
    side_by_side = {keys: group for keys, group in groups.items() if 1 < len(group) < 7}
    placed = {name for group in side_by_side.values() for name in group}
    alone = {name: value for name, value in numbers.items() if name not in placed}
    tables = [{"columns": list(group), "rows": {key: [plain_value(one[key]) for one in group.values()] for key in keys}}
              for keys, group in side_by_side.items()]  # fmt: skip
    rows = {name: [plain_value(value)] for name, value in flatten(alone).items()}
    return [*tables, {"columns": ["value"], "rows": rows}] if rows else tables


def assumptions_of(document: dict[str, Any]) -> dict[str, Any]:
    """The error model: every constant by arithmetic, and where it comes from."""
    models = document["assumptions"]
    names = dict.fromkeys(name for model in models.values() for name in model if name not in ("sources", "arithmetic"))
    rows = []
    for name in names:
        sources = dict.fromkeys(model.get("sources", {}).get(name, "") for model in models.values())
        values = [plain_value(model.get(name, "")) for model in models.values()]
        source = "; ".join(source for source in sources if source)
        rows.append({"name": name.replace("_", " "), "values": values, "source": source})
    return {"arithmetics": list(models), "rows": rows}


def environment_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """What each subject is and runs on, one setting a row."""
    flat = {subject: flatten(about) for subject, about in document["subjects"].items()}
    names = dict.fromkeys(name for settings in flat.values() for name in settings)
    return [{"name": name, "values": [plain_value(flat[subject].get(name, "")) for subject in flat]} for name in names]
