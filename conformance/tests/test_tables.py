"""Is everything in the tables of the terminal, whatever its width?"""

import io
import re

import pytest
from rich.console import Console

from mmrec.conformance.summary import print_conclusion, print_table
from mmrec.conformance.verdicts import Verdict

NAMES = ["torch", "torch-parallel", "triton", "jax", "somebody's kernels of a long name 0.3"]
WORST = "bfloat16"  # the longest dtype
TITLE = "What the decay means in the stabilized form"


def document():
    """Every clause conforms for every subject but in one row, where each has another verdict of the longest."""
    verdicts = sorted((verdict for verdict in Verdict if verdict != Verdict.NOT_IMPLEMENTED), key=len)[-len(NAMES) :]
    records = []
    for clauses in (["CONV-1", "CONV-2", "CONV-7", "CONV-8"], ["REC-9"]):
        for name, verdict in zip(NAMES, verdicts, strict=True):
            records.append({"subject": name, "clauses": clauses, "op": "gated_recurrence", "dtype": WORST, "left_out": "",
                            "verdict": verdict.value if clauses == ["REC-9"] else "CONFORMS", "budget": 0.31,
                            "examples": 3, "series": {}})  # fmt: skip
    titles = {"CONV-1": {"title": "Shapes and layout"}, "REC-9": {"title": TITLE}}
    subjects = {name: {} for name in NAMES}
    return {"profile": "quick", "seed": 0, "subjects": subjects, "clauses": titles, "records": records}


def printed(width, terminal):
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=terminal, color_system=None)
    print_table(document(), console)
    print_conclusion(document(), console)
    return stream.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("width", [20, 40, 80, 120, 240])
def test_nothing_is_cut(width, terminal):
    text = printed(width, terminal)
    assert "…" not in text
    table = text[: text.index(f"{NAMES[0]} does not")]
    for record in document()["records"]:
        assert record["subject"] in table and all(clause in table for clause in record["clauses"])
        assert record["verdict"] == "CONFORMS" or f"{record['verdict']} {WORST}" in table
    assert table.count("ok  31 %") == len(NAMES)
    assert set(TITLE.split()) <= set(table.split())


def test_in_a_pipe_every_clause_is_one_line_with_all_subjects():
    (line,) = [line for line in printed(80, terminal=False).splitlines() if line.startswith("REC-9")]
    assert TITLE in line and line.count(WORST) == len(NAMES)
    assert "\nCONV-1, CONV-2, CONV-7, CONV-8 │ Shapes" in printed(80, terminal=False)


def test_a_terminal_of_80_columns_is_not_exceeded_and_gets_the_rest_below():
    text = printed(80, terminal=True)
    rows = text[: text.index(f"{NAMES[0]} does not")].splitlines()
    assert max(map(len, rows[1:])) <= 80
    assert 1 < sum(bool(re.match("clause +┃", row)) for row in rows) <= len(NAMES)
    assert printed(400, terminal=True).count("what it says") == 1
