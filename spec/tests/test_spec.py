"""Do the chapters keep the form of README.md, and is no statement of the sources lost?"""

import re
from pathlib import Path

import pytest

from mmrec import spec
from mmrec.spec._parse import join_chapters, parse_chapter, parse_discrepancies, parse_ledger

ARGUMENTS = {
    "decay_product": ["gamma", "initial"],
    "decay_product_exact": ["gamma", "initial"],
    "log_decay_product": ["log_gamma", "initial"],
    "linear_recurrence": ["a", "b", "h0"],
    "gated_recurrence": ["z", "gamma", "W_g", "b_g", "h0"],
    "stabilized_recurrence": ["z", "gate_z", "gamma", "W_h", "b_h", "norm_weight", "norm_bias", "h0"],
    "decay_gate": [
        "z", "k", "base_w1", "base_b1", "base_w2", "base_b2", "context_w1", "context_b1", "context_w2", "context_b2",
    ],
}  # fmt: skip
OPTIONS = {"stabilized_recurrence": {"norm", "eps", "clip"}, "decay_gate": {"gelu"}}
GRADIENTS = {
    "ADJ-1": "decay_product",
    "ADJ-2": "decay_product_exact",
    "ADJ-3": "log_decay_product",
    "ADJ-4": "linear_recurrence",
    "ADJ-5": "gated_recurrence",
    "ADJ-6": "stabilized_recurrence",
    "ADJ-7": "decay_gate",
}
FOLDER = Path(spec.__file__).parent
NORMATIVE = [clause for clause in spec.clauses().values() if clause.kind == "normative"]
EXAMPLES = [clause for clause in spec.clauses().values() if clause.example is not None]
every_normative_clause = pytest.mark.parametrize("clause", NORMATIVE, ids=lambda clause: clause.id)
every_normative_clause_of_an_op = pytest.mark.parametrize(
    "clause", [clause for clause in NORMATIVE if clause.ops], ids=lambda clause: clause.id
)
every_example = pytest.mark.parametrize("clause", EXAMPLES, ids=lambda clause: clause.id)

CLAUSE = """\
# A chapter

## AB-1 Title   [normative]
Op: `decay_product`
Covers: SCAN-1

It MUST be so.

```toml
# example
op = "decay_product"
result = 1.0
```

Source: S1 L1
"""


# ---- ledger ------------------------------------------------------------------------
def test_the_ledger_has_every_item_and_contradiction():
    assert len(spec.ledger()) == 507
    assert len(spec.contradictions()) == 112


def test_every_row_of_the_ledger_is_read():
    rows = re.findall(r"^\| [A-Z-]+-\d+ \|", (FOLDER / "ledger.md").read_text(encoding="utf-8"), re.M)

    assert len(rows) == len(spec.ledger())


def test_every_item_has_all_its_cells():
    for item in spec.ledger().values():
        assert all([item.kind, item.variant, item.statement, item.source, item.testable]), item.id
        assert item.kind in "FSAIKMLCRXTBDEV", item.id


def test_contradictions_are_numbered_without_a_gap():
    assert list(spec.contradictions()) == [f"X-{n}" for n in range(1, 113)]


def test_nothing_names_the_places_the_sources_lay_in():
    for path in FOLDER.glob("*.md"):
        text = path.read_text(encoding="utf-8").replace("random seed", "")
        assert not re.search(r"\bseeds?\b|\baudit|_[0-9a-f]{16}\b", text), path.name


# ---- discrepancies and coverage ----------------------------------------------------
def test_every_contradiction_of_grade_a_is_decided():
    text = (FOLDER / "discrepancies.md").read_text(encoding="utf-8")
    entries = re.split(r"^- \*\*(X-\d+) ", text, flags=re.M)[1:]
    pairs = zip(entries[::2], entries[1::2], strict=True)
    decided = {id for id, entry in pairs if re.search(r"^  Spec: \S", entry, re.M)}

    missing = [id for id, dispute in spec.contradictions().items() if dispute.grade[0] == "A" and id not in decided]

    assert missing == []


def test_coverage_loses_no_item():
    assert set(spec.coverage()) == set(spec.ledger()) | set(spec.contradictions())


def test_coverage_is_a_clause_or_covered_by_one_or_open_for_a_chapter():
    for id, answer in spec.coverage().items():
        if answer == "clause":
            assert id in spec.clauses()
        elif match := re.fullmatch(r"covered by (\S+)", answer):
            assert match[1] in spec.clauses(), id
        else:
            assert re.fullmatch(r"open: [a-z_]+", answer), (id, answer)


def test_every_open_chapter_is_listed_in_the_readme():
    listed = set(re.findall(r"`(\w+)(?:\.md)?`", (FOLDER / "README.md").read_text(encoding="utf-8")))
    opened = {answer.removeprefix("open: ") for answer in spec.coverage().values() if answer.startswith("open: ")}

    assert opened <= listed


# ---- clauses -----------------------------------------------------------------------
def test_every_id_is_used_once():
    text = "\n".join(p.read_text(encoding="utf-8") for p in FOLDER.glob("*.md") if p.stem != "README")
    headings = re.findall(r"^## ([A-Z-]+-\d+) .*   \[", text, re.M)

    assert sorted(headings) == sorted(spec.clauses())
    assert len(set(headings)) == len(headings)


def test_every_covered_id_is_in_the_ledger():
    for clause in spec.clauses().values():
        assert set(clause.covers) <= set(spec.ledger()), clause.id


def test_every_clause_named_in_a_text_exists():
    known = set(spec.clauses()) | set(spec.ledger()) | set(spec.contradictions())
    for clause in spec.clauses().values():
        named = re.findall(r"\b(?:CONV|SCAN|STAB|MDI|REC|GAMMA|ADJ|GRAD|NUM|EXP|X)-\d+\b", clause.text + clause.source)
        assert set(named) <= known, clause.id


@every_normative_clause
def test_a_normative_clause_has_one_must_and_a_source(clause):
    assert len(re.findall(r"\bMUST\b", clause.text)) == 1
    assert re.match(r"S[0-4] |decided here", clause.source)


@every_normative_clause
def test_a_normative_clause_has_a_formula_and_says_how_close(clause):
    assert re.search(r"^    \S", clause.text, re.M)
    assert re.search(
        r"^Accuracy: (exact|bound in numerics/bounds/\w+\.py|bound of the op in numerics/bounds/)$", clause.text, re.M
    )


@every_normative_clause_of_an_op
def test_a_normative_clause_of_an_op_has_a_table_and_an_example(clause):
    assert "| name | shape | unit | domain |" in clause.text
    assert clause.example is not None


def test_no_clause_names_a_framework():
    for clause in spec.clauses().values():
        assert not re.search(r"torch|jax|triton|cuda|pallas", f"{clause.title} {clause.text}", re.I), clause.id


# ---- examples ----------------------------------------------------------------------
@every_example
def test_an_example_has_exactly_the_arguments_of_its_op(clause):
    example = clause.example
    arguments = ARGUMENTS[example["op"]]
    gradients = {"g"} | {f"grad_{name}" for name in arguments} if "g" in example else set()

    given = set(example) - {"op", "result"} - OPTIONS.get(example["op"], set())

    assert given == set(arguments) | gradients


@every_example
def test_an_example_has_matching_shapes(clause):
    example = clause.example
    arguments = ARGUMENTS[example["op"]]

    assert shape(example["result"]) == shape(example[arguments[0]])
    if "g" in example:
        assert shape(example["g"]) == shape(example["result"])
        for name in arguments:
            assert shape(example[f"grad_{name}"]) == shape(example[name]), name


@pytest.mark.parametrize(("id", "op"), GRADIENTS.items())
def test_every_op_has_a_gradient_clause_with_an_example(id, op):
    clause = spec.clauses()[id]

    assert clause.ops == (op,)
    assert "g" in clause.example


def test_the_example_of_the_linear_recurrence_follows_its_formula():
    example = spec.clauses()["MDI-1"].example
    h = example["h0"][0][0]
    for (a,), (b,), (result,) in zip(example["a"][0], example["b"][0], example["result"][0], strict=True):
        h = a * h + b
        assert result == h


def shape(nested) -> tuple[int, ...]:
    """Lengths of a nested list along each axis; every list of an axis has the same."""
    if not isinstance(nested, list):
        return ()
    inner = {shape(part) for part in nested}
    assert len(inner) == 1
    return (len(nested), *inner.pop())


# ---- malformed text ----------------------------------------------------------------
def test_a_good_chapter_is_read():
    [(clause, line)] = parse_chapter(CLAUSE, "a.md")

    assert (clause.id, clause.kind, clause.chapter, line) == ("AB-1", "normative", "a", 3)
    assert clause.ops == ("decay_product",)
    assert (clause.covers, clause.source, clause.example["result"]) == (("SCAN-1",), "S1 L1", 1.0)


def test_a_clause_may_speak_of_several_ops_and_its_example_is_of_one():
    [(clause, _)] = parse_chapter(CLAUSE.replace("Op: `decay_product`", "Op: `decay_gate`, `decay_product`"), "a.md")

    assert clause.ops == ("decay_gate", "decay_product")
    assert clause.example["op"] == "decay_product"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("   [normative]", " [normative]", r"a\.md:3: a heading is"),
        ("[normative]", "[binding]", r"a\.md:3: a heading is"),
        ("AB-1", "ab1", r"a\.md:3: a heading is"),
        ("MUST", "may", r"a\.md:3: AB-1 is \[normative\] and has 0 MUST"),
        ("It MUST", "It MUST MUST", r"a\.md:3: AB-1 is \[normative\] and has 2 MUST"),
        ("[normative]", "[note]", r"a\.md:3: AB-1 is \[note\] and has 1 MUST"),
        ("Source: S1 L1", "", r"a\.md:3: AB-1 has no 'Source:' line"),
        ("Covers: SCAN-1", "Op: `decay_gate`", r"a\.md:5: AB-1 has two 'Op:' lines"),
        ("Op: `decay_product`", "Op: `decay_product`, decay_gate", r"a\.md:3: AB-1: .* not decay_gate"),
        ("Op: `decay_product`", "Op: decay_product", r"a\.md:3: AB-1: 'Op:' takes names in backquotes"),
        ("result = 1.0", "result = ", r"a\.md:9: the example of AB-1 is not TOML"),
        ("result = 1.0", "", r"a\.md:9: AB-1 takes one example, with its op and a result"),
        ('op = "decay_product"', 'op = "decay_gate"', r"a\.md:9: AB-1 takes one example"),
        ("1.0\n```", "1.0\n", r"a\.md:9: a fenced block is not closed"),
    ],
)
def test_a_malformed_chapter_is_refused_with_file_and_line(old, new, message):
    assert old in CLAUSE

    with pytest.raises(ValueError, match=message):
        parse_chapter(CLAUSE.replace(old, new), "a.md")


@pytest.mark.parametrize(
    ("second", "items", "message"),
    [
        (CLAUSE, {"SCAN-1"}, r"b\.md:3: AB-1 is there twice"),
        (CLAUSE.replace("AB-1", "AB-2"), {"SCAN-1"}, r"b\.md:3: AB-2 covers SCAN-1, which is AB-1 already"),
        (CLAUSE.replace("AB-1", "AB-2").replace("SCAN-1", "AB-1"), {"SCAN-1", "AB-1"}, r"which is a clause already"),
        (CLAUSE.replace("AB-1", "AB-2").replace("SCAN-1", "SCAN-0"), {"SCAN-1"}, r"SCAN-0, which is not in the ledger"),
    ],
)
def test_chapters_that_contradict_each_other_are_refused(second, items, message):
    chapters = [("a.md", parse_chapter(CLAUSE, "a.md")), ("b.md", parse_chapter(second, "b.md"))]

    with pytest.raises(ValueError, match=message):
        join_chapters(chapters, items)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("## AB: x\nChapter: c\n| AB-1 | F DES | a | b |\n", r"l\.md:3: a row is"),
        ("## AB: x\n| AB-1 | F DES | a | S1 | t |\n", r"l\.md:2: AB-1 stands outside its area"),
        ("## AB: x\nChapter: c\n| CD-1 | F DES | a | S1 | t |\n", r"l\.md:3: CD-1 stands outside its area"),
        ("## AB: x\nChapter: c\n" + 2 * "| AB-1 | F DES | a | S1 | t |\n", r"l\.md:4: AB-1 is there twice"),
        ("## AB: x\nChapter: c\nChapter: d for AB-9\n", r"l\.md: 'Chapter: \.\.\. for' names unknown ids AB-9"),
        ("- **X-1 [Z] title.** text\n", r"l\.md:1: a contradiction is"),
    ],
)
def test_a_malformed_ledger_is_refused_with_file_and_line(text, message):
    with pytest.raises(ValueError, match=message):
        parse_ledger(text, "l.md")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- **X-1 [B] title.** text\n", r"d\.md:1: X-1 \[B\] is not in the ledger so"),
        ("  Shown by: AB-1\n", r"d\.md:1: 'Shown by:' belongs to no contradiction"),
        ("- **X-1 [A] title.** text\n  Shown by: AB-2\n", r"d\.md:2: no clause AB-2"),
        ("- **X-1 [A] title.** text\n  Shown by: open: nowhere\n", r"d\.md:2: 'open: nowhere' names no chapter"),
        ("- **X-1 [A] title.** text\n", r"d\.md: says nothing, or not what shows it, of X-1"),
    ],
)
def test_malformed_discrepancies_are_refused_with_file_and_line(text, message):
    disputes = {"X-1": spec.Contradiction("X-1", "A", "title.", "text")}

    with pytest.raises(ValueError, match=message):
        parse_discrepancies(text, "d.md", disputes, {"AB-1"}, {"memory"})
