"""Where does each subject stand on a clause? What a result file says of it, or in words why it says nothing."""

from collections.abc import Iterator
from typing import Any

from rich.text import Text

from mmrec.conformance.ops import all_ops
from mmrec.conformance.summary import cell_text
from mmrec.conformance.traceability import Trace


def standing(found: Trace, document: dict[str, Any]) -> Iterator[Text]:
    """A line a subject; before them, where no check bears the clause, what of its ops is judged in its place."""
    clauses, ops = {found.clause.id}, found.clause.ops
    if not found.checks:
        shown = "it is shown by the tests above" if found.tests else "nothing shows it"
        yield Text(f"No check of the judge bears {found.clause.id}: {shown}.")
        rows = [all_ops()[op] for op in ops]
        clauses = {clause for row in rows for clause in (*row.clauses, *row.adjoint_clauses)}
        if not clauses:
            return
        named = ", ".join(clause for row in rows for clause in dict.fromkeys((*row.clauses, *row.adjoint_clauses)))
        yield Text(
            f"Whoever is judged by {' or '.join(ops)} is held to {named} with the bound of any other; there stand:"
        )
    for subject in document["subjects"]:
        records = [record for record in document["records"]
                   if record["subject"] == subject and clauses & {*record["clauses"]}]  # fmt: skip
        cell = [record for record in records if found.checks or record["op"] in ops]
        yield Text.assemble(f"  {subject}: ", cell_text(cell) if cell else Text("not judged in this run", "dim"))
