"""The table in the terminal: clauses by subject, with the share of the error budget used. Drawn from a result document."""

from collections import defaultdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmrec.conformance.result import number
from mmrec.conformance.tables import blocks_that_fit, print_whole

Cell = list[dict[str, Any]]  # the records of one row of clauses and one subject


def rows_of(document: dict[str, Any]) -> dict[tuple[str, ...], dict[str, Cell]]:
    """Records by the clauses they show, then by subject, in the order of the spec's chapters."""
    rows: dict[tuple[str, ...], dict[str, Cell]] = defaultdict(lambda: defaultdict(list))
    for record in document["records"]:
        rows[tuple(record["clauses"])][record["subject"]].append(record)
    order = {clause: place for place, clause in enumerate(document["clauses"])}
    return dict(sorted(rows.items(), key=lambda row: [order.get(clause, len(order)) for clause in row[0]]))


def worst_of(cell: Cell) -> dict[str, Any] | None:
    """The record that decides a cell: a failure before any budget, and the largest budget otherwise."""
    judged = [record for record in cell if not record["left_out"]]
    return max(judged, key=lambda r: (severity(r["verdict"]), number(r["budget"])), default=None)


def severity(verdict: str) -> int:
    return {"NOT_IMPLEMENTED": 0, "CONFORMS": 1, "WAIVED": 2}.get(verdict, 3)


def title_of(document: dict[str, Any], clauses: tuple[str, ...]) -> str:
    return document["clauses"].get(clauses[0], {}).get("title", "") if clauses else ""


def label_of(clauses: tuple[str, ...]) -> str:
    """REC-10, REC-11, REC-12 as REC-10..12; other ids in full."""
    areas, numbers = zip(*(clause.rpartition("-")[::2] for clause in clauses), strict=True)
    if len(clauses) > 2 and len(set(areas)) == 1 and all(n.isdigit() for n in numbers):
        first, last = int(numbers[0]), int(numbers[-1])
        if [int(n) for n in numbers] == list(range(first, last + 1)):
            return f"{clauses[0]}..{last}"
    return ", ".join(clauses)


def print_table(document: dict[str, Any], console: Console) -> None:
    # Not the table's own title, which is broken to the table's width.
    console.print(f"Error budget used, by clause and subject (profile {document['profile']}, seed {document['seed']})",
                  style="italic", highlight=False, soft_wrap=True)  # fmt: skip
    rows = rows_of(document)
    longest = max(map(len, map(label_of, rows)), default=0)
    label_width = min(longest, 16) if console.is_terminal else longest  # a row in a pipe is one line

    def table_of(subjects: list[str]) -> Table:
        table = Table(show_edge=False, pad_edge=False)
        table.add_column("clause", width=max(label_width, 10), overflow="fold")
        table.add_column("what it says", min_width=20, overflow="fold")
        columns = [[cell_text(by_subject.get(subject, [])) for by_subject in rows.values()] for subject in subjects]
        for subject, column in zip(subjects, columns, strict=True):
            whole = max(len(subject), 8, *map(len, column))
            table.add_column(Text(subject), justify="right", min_width=whole, no_wrap=True)
        for clauses, *cells in zip(rows, *columns, strict=True):
            table.add_row(label_of(clauses), title_of(document, clauses), *cells)
        return table

    for place, table in enumerate(blocks_that_fit(list(document["subjects"]), table_of, console)):
        if place:
            console.print()
        print_whole(table, console)


def cell_text(cell: Cell) -> Text:
    worst = worst_of(cell)
    if worst is None:
        return Text("not run" if cell else "", style="dim")
    if worst["verdict"] == "NOT_IMPLEMENTED":
        return Text("-", style="dim")
    if worst["verdict"] != "CONFORMS":
        return Text(f"{worst['verdict']} {worst['dtype']}", style="bold red")
    return Text(f"ok {100 * number(worst['budget']):3.0f} %", style="green")


def print_conclusion(document: dict[str, Any], console: Console) -> None:
    """One line a subject: how many checks, how many examples, what failed."""
    for subject in document["subjects"]:
        records = [r for r in document["records"] if r["subject"] == subject]
        judged = [r for r in records if not r["left_out"] and r["verdict"] != "NOT_IMPLEMENTED"]
        failed = [r for r in judged if r["verdict"] not in ("CONFORMS", "WAIVED")]
        examples = sum(r["examples"] for r in judged)
        absent = [r for r in records if r["verdict"] == "NOT_IMPLEMENTED"]
        offered = {r["op"] for r in records if r not in absent}
        missing = sorted({r["op"] for r in absent} - offered)
        forward_only = sorted({r["op"] for r in absent} & offered)
        left_out = sorted({r["left_out"] for r in records if r["left_out"]})
        verdict = Text("conforms", "bold green") if judged and not failed else Text("does not conform", "bold red")
        if not judged:
            verdict = Text("was not judged", "bold red")
        console.print(
            Text.assemble(
                f"{subject} ", verdict, f": {len(judged) - len(failed)} of {len(judged)} checks, {examples} examples"
            ),
            soft_wrap=True,
        )
        if missing:
            console.print(f"  not implemented: {', '.join(missing)}", style="dim", soft_wrap=True)
        if forward_only:
            console.print(
                f"  gradients not offered, so not judged: {', '.join(forward_only)}", style="dim", soft_wrap=True
            )
        if interpreted := how_far_interpreted(document, subject):
            console.print(f"  {interpreted}", style="dim", soft_wrap=True)
        for reason in left_out:
            count = sum(r["left_out"] == reason for r in records)
            console.print(f"  not run: {count} check{'s' * (count != 1)}: {reason}", style="dim", soft_wrap=True)


def how_far_interpreted(document: dict[str, Any], subject: str) -> str:
    """What an interpreter was asked, which is less than a GPU would be; nothing to say of other subjects."""
    if not document["subjects"][subject].get("interpreted"):
        return ""
    own = [record for record in document["records"] if record["subject"] == subject]
    longest = max((int(steps) for record in own for steps in record["series"]), default=0)
    return f"interpreted: judged on at most {longest} steps, and most calls were made only once"
