"""Does the page say all that a result document holds, safely, and does the comparison find what changed?"""

import copy
import html
import io
import re
from html.parser import HTMLParser

import jsonschema
import pytest
from rich.console import Console

from mmrec.conformance import result, test_gradients, test_long, test_values
from mmrec.conformance.report import render, write_report
from mmrec.conformance.report.difference import compare, print_difference, with_name
from mmrec.conformance.report.figures import DRAWN

HOSTILE = "<script>alert('x')</script><img src=x onerror=alert(1)>\"&{{ 7 * 7 }}"
DTYPES = ("float64", "float32", "bfloat16", "float16")


# ---- documents -------------------------------------------------------------------------
VALUES = "every_value_is_within_its_bound"
STEPS = (1, 5, 64)


def record(subject="torch", op="linear_recurrence", dtype="float32", check=VALUES, clauses=("MDI-1",), **more):
    worst = {
        "verdict": "CONFORMS", "budget": 0.31, "where": "result[0, 4, 2]", "got": 0.1 + 0.2, "expected": 0.3,
        "tolerance": 1e-8, "case": f"{op}/{dtype}/uniform/B2-T5-D3/seed17/strided", "message": "", "error": 1e-8,
        "allowed": 3e-8, "steps": 5,
    }  # fmt: skip
    series = {str(t): {"error": 1e-9 * (t - 1), "allowed": 1e-8 * t, "budget": 0.31} for t in STEPS}
    return {
        "check": check, "clauses": list(clauses), "subject": subject, "op": op, "dtype": dtype, "verdict": "CONFORMS",
        "budget": 0.31, "examples": 12, "seconds": 0.1, "worst": worst, "series": series, "replay": "", "left_out": "",
        **more,
    }  # fmt: skip


def failing(given, verdict="OUT_OF_BOUND", budget=3.5, message="result[0, 4, 2] is 0.4, exact 0.3"):
    worst = given["worst"] | {"verdict": verdict, "budget": budget, "message": message}
    replay = f"mmrec verify {given['subject']} --replay '{worst['case']}'"
    return given | {"verdict": verdict, "budget": budget, "worst": worst, "replay": replay}


def document_of(records):
    clause = {
        "title": "Linear recurrence", "kind": "normative", "chapter": "recurrence", "source": "S1 §4.3",
        "text": "For `t`:\n\n    h[t] = a[t] * h[t-1] + b[t]\n\n| name | shape |\n|---|---|\n| a | [B,T,D] |\n",
    }  # fmt: skip
    subjects = dict.fromkeys(r["subject"] for r in records)
    ops = dict.fromkeys(r["op"] for r in records)
    document = {
        "schema": 1, "suite": "0.1.0", "spec": "0.1", "created": "2026-01-02T03:04:05+00:00", "profile": "quick",
        "seed": 0, "seconds": 1.5, "machine": {"system": "Linux", "cores": 2},
        "assumptions": {"float32": {"arithmetic": "float32", "exp": 4.0, "sources": {"exp": "vendor table"}}},
        "subjects": {name: {"framework": name, "environment": {name: "1.2.3"}} for name in subjects},
        "clauses": {name: dict(clause) for r in records for name in r["clauses"]},
        "ops": {op: {"arguments": {"a": "BTD"}, "bound": f"B-{op}: the bound.", "clauses": ["MDI-1"]} for op in ops},
        "records": records, "experiments": [],
    }  # fmt: skip
    jsonschema.validate(document, result.schema())
    return document


@pytest.fixture
def document():
    every = [record(subject, dtype=dtype) for subject in ("torch", "jax") for dtype in DTYPES]
    every += [record(subject, check="rows_never_mix", clauses=["CONV-11"], series={}) for subject in ("torch", "jax")]
    return document_of(every)


REFERENCES = ("src", "href", "xlink:href", "action", "data")


class Reader(HTMLParser):
    """Text, tags, ids and references of a page; complains about tags that do not match."""

    VOID = ("meta", "br", "wbr", "img", "path", "polyline", "polygon")

    def __init__(self, page):
        super().__init__()
        self.tags, self.ids, self.references, self.open, self.text = [], [], [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.text += "" if tag == "wbr" else " "
        self.tags.append(tag)
        self.ids += [value for name, value in attributes if name == "id"]
        self.references += [value for name, value in attributes if name in REFERENCES]
        assert not any(name.startswith("on") for name, _ in attributes)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


# ---- the page --------------------------------------------------------------------------
def test_the_page_holds_every_clause_subject_and_failure(document):
    document["records"][0] = failing(document["records"][0])
    page = render(document)
    reader = Reader(page)
    assert {"clause-MDI-1", "clause-CONV-11"} <= set(reader.ids)
    assert "torch does not conform: 1 of 5 checks failed" in " ".join(reader.text.split())
    assert "jax conforms: 5 of 5 checks passed" in " ".join(reader.text.split())
    assert "result[0, 4, 2] is 0.4, exact 0.3" in reader.text
    assert document["records"][0]["replay"] in reader.text
    assert "B-linear_recurrence: the bound." in reader.text
    assert "vendor table" in reader.text


def test_the_page_is_well_formed_and_its_links_lead_somewhere(document):
    reader = Reader(render(document))
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    assert {reference.removeprefix("#") for reference in reader.references} <= set(reader.ids)


def test_the_page_needs_nothing_from_elsewhere(document):
    page = render(document)
    assert "http://" not in page
    assert "https://" not in page
    assert not re.search(r"@import|url\(", page)
    assert {"script", "link", "img", "iframe"}.isdisjoint(Reader(page).tags)


def test_a_clause_is_set_as_text_formula_and_table(document):
    page = render(document)
    assert "<pre><code>h[t] = a[t] * h[t-1] + b[t]" in page
    assert '<th scope="col">shape</th>' in page


@pytest.mark.parametrize("place", ["subject", "clause", "check", "message", "left_out", "bound and clause"])
def test_hostile_text_stays_text(place):
    one = failing(record(), message=HOSTILE if place == "message" else "wrong")
    one |= {"subject": {"subject": HOSTILE}, "clause": {"clauses": [HOSTILE]}, "check": {"check": HOSTILE},
            "left_out": {"left_out": HOSTILE}}.get(place, {})  # fmt: skip
    given = document_of([one])
    given["ops"]["linear_recurrence"]["bound"] = HOSTILE if place == "bound and clause" else ""
    given["machine"][HOSTILE] = HOSTILE
    given["clauses"] = {name: clause | {"text": HOSTILE} for name, clause in given["clauses"].items()}
    given["experiments"] = [{"clause": HOSTILE, "claim": HOSTILE, "source": HOSTILE, "outcome": "refuted",
                             "found": HOSTILE, "numbers": {HOSTILE: {HOSTILE: HOSTILE}}}]  # fmt: skip
    page = render(given)
    reader = Reader(page)
    assert {"script", "img"}.isdisjoint(reader.tags)
    assert "alert('x')" in html.unescape(page)
    assert "49" not in re.findall(r"&amp;(\d+)", page)


def test_a_run_of_failures_only_shows_them_all():
    wrong = []
    for number in range(10):
        for dtype in DTYPES:
            one = record(dtype=dtype, clauses=[f"REC-{number}"], check=f"check_{number}")
            wrong.append(failing(one, message=f"failure {number} of {dtype}"))
    reader = Reader(render(document_of(wrong)))
    assert all(one["worst"]["message"] in reader.text for one in wrong)
    assert "40 of 40 checks failed" in reader.text


def test_budgets_beyond_all_numbers_are_shown():
    crashed = failing(record(), "CRASHED", "inf", "exit code -11")
    crashed["worst"] |= {"got": None, "expected": None, "tolerance": None}
    not_a_number = failing(record(dtype="float64"), "NOT_FINITE", "nan")
    not_a_number["series"]["5"] = {"error": "inf", "allowed": "nan", "budget": "inf"}
    text = Reader(render(document_of([crashed, not_a_number]))).text
    assert "CRASHED" in text
    assert "∞\u00a0×" in text


def test_an_experiment_is_told_with_its_numbers(document):
    document["experiments"] = [{
        "clause": "EXP-1", "claim": "a largest `difference`", "source": "S2 L74", "outcome": "qualified",
        "found": "for (0, 1) only", "numbers": {"a": {"n": 1, "m": 2.5}, "b": {"n": 3, "m": 4}, "c": "inf"},
        "statements": {"it holds": True},
    }]  # fmt: skip
    text = " ".join(Reader(render(document)).text.split())
    for expected in ("± qualified", "S2 L74", "a largest difference", "for (0, 1) only", "it holds yes"):
        assert expected in text
    assert "quantity a b n 1 3 m 2.5 4" in text


def test_without_experiments_the_page_says_so(document):
    assert "No experiment was run." in Reader(render(document)).text


def test_without_records_nothing_conforms(document):
    empty = document | {"records": []}
    assert "was not judged" in Reader(render(empty)).text


def test_what_was_not_judged_looks_unlike_what_passed(document):
    document["records"] += [record(check="long", clauses=["SCAN-24"], left_out="not part of the quick profile"),
                            record("jax", check="long", clauses=["SCAN-24"], verdict="NOT_IMPLEMENTED", budget=0.0,
                                   worst={"message": "the subject has no such op"})]  # fmt: skip
    page = render(document)
    assert re.search(r'<td class="cell not-run "><span class="value">not run', page)
    assert re.search(r'<td class="cell absent "><span class="value">not implemented', page)
    assert "not part of the quick profile" in page
    assert "the subject has no such op" in page


def test_a_clause_whose_text_is_missing_is_listed(document):
    del document["clauses"]["CONV-11"]
    assert "clause-CONV-11" in Reader(render(document)).ids


def test_values_and_gradients_are_drawn_for_every_subject_and_dtype(document):
    page = render(document)
    assert page.count("<svg") == 1
    assert all(f">{subject}, {dtype}</text>" in page for subject in ("torch", "jax") for dtype in DTYPES)


def test_the_checks_that_are_drawn_exist():
    checks = {name for module in (test_values, test_gradients, test_long) for name in vars(module)}
    assert {f"test_{check}" for pair in DRAWN.items() for check in pair} <= checks


def test_the_report_is_written_where_it_is_wanted(document, tmp_path):
    path = tmp_path / "new" / "report.html"
    write_report(document, path)
    assert path.read_text(encoding="utf-8") == render(document)


# ---- the comparison --------------------------------------------------------------------
def kinds(old, new):
    return [change.kind for change in compare(old, new)]


def printed(old, new):
    stream = io.StringIO()
    return print_difference(old, new, Console(file=stream, width=100)), stream.getvalue()


def changed(document, **more):
    other = copy.deepcopy(document)
    other["records"][0] |= more
    return other


def test_equal_files_do_not_differ(document):
    document["records"][0] = failing(document["records"][0], budget="nan")
    assert compare(document, copy.deepcopy(document)) == []
    assert printed(document, document)[0] is False


def test_a_regression_is_found_and_told_first(document):
    worse = changed(document, **failing(document["records"][0]))
    worse["seed"] = 1
    assert kinds(document, worse) == ["regression", "condition"]
    regressed, text = printed(document, worse)
    assert regressed
    assert "31\u00a0% → OUT OF BOUND 3.5\u00a0×" in text
    assert worse["records"][0]["replay"] in text


def test_a_regression_is_found_behind_another_name(document):
    old, new = with_name(document, "torch", "mine 0.3"), with_name(document, "torch", "mine 0.4")
    new["records"][0] = failing(new["records"][0])
    assert kinds(old, new) == ["regression"]
    regressed, text = printed(old, new)
    assert regressed and "mine 0.3 is only in the old file, mine 0.4 only in the new one" in " ".join(text.split())


def test_which_of_two_new_names_an_old_one_became_is_not_guessed(document):
    new = with_name(with_name(document, "torch", "mine 0.4"), "jax", "theirs")
    old = {**document, "records": [r for r in document["records"] if r["subject"] == "torch"],
           "subjects": {"torch": document["subjects"]["torch"]}}  # fmt: skip
    assert set(kinds(old, new)) == {"no longer judged", "newly judged"}


def test_an_op_that_is_gone_is_a_regression(document):
    gone = changed(document, verdict="NOT_IMPLEMENTED", budget=0.0)
    assert kinds(document, gone) == ["regression"]


def test_a_fix_is_no_regression(document):
    worse = changed(document, **failing(document["records"][0], "NOT_FINITE", "inf"))
    assert kinds(worse, document) == ["fix"]
    assert printed(worse, document)[0] is False


def test_another_way_to_fail_is_told(document):
    one, other = (changed(document, **failing(document["records"][0], verdict)) for verdict in ("RAISED", "CRASHED"))
    assert kinds(one, other) == ["verdict"]


@pytest.mark.parametrize(("old", "new", "found"), [(0.05, 0.6, ["budget"]), (0.6, 0.05, ["budget"]), (0.05, 0.1, [])])
def test_a_jump_of_the_budget_is_found_though_both_pass(document, old, new, found):
    assert kinds(changed(document, budget=old), changed(document, budget=new)) == found


def test_new_and_missing_checks_are_told_but_are_no_regression(document):
    fewer = document | {"records": document["records"][1:]}
    assert kinds(document, fewer) == ["no longer judged"]
    assert kinds(fewer, document) == ["newly judged"]
    assert printed(document, fewer)[0] is False
    assert kinds(document, changed(document, left_out="not part of the profile")) == ["no longer judged"]


def test_a_new_check_that_fails_is_told_apart(document):
    fewer = document | {"records": document["records"][1:]}
    assert kinds(fewer, changed(document, **failing(document["records"][0]))) == ["new failure"]


@pytest.mark.parametrize("path", [("profile",), ("seed",), ("machine", "cores"), ("assumptions", "float32", "exp"),
                                  ("subjects", "torch", "environment", "torch")])  # fmt: skip
def test_other_conditions_are_told(document, path):
    other = copy.deepcopy(document)
    place = other
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = 99
    assert kinds(document, other) == ["condition"]
    assert "99" in compare(document, other)[0].new


def test_a_clause_that_says_something_else_is_told(document):
    other = copy.deepcopy(document)
    other["clauses"]["MDI-1"]["text"] = "Anything goes."
    other["ops"]["linear_recurrence"]["bound"] = "Wide."
    assert [change.what for change in compare(document, other)] == ["clause MDI-1", "bound of linear_recurrence"]


def test_an_experiment_with_another_outcome_is_told(document):
    claim = {"clause": "EXP-1", "claim": "c", "source": "S2", "found": "f"}
    old, new = (document | {"experiments": [claim | {"outcome": outcome}]} for outcome in ("reproduced", "refuted"))
    assert kinds(old, new) == ["claim"]
