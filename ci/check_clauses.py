"""Every clause has its place: reference or property, bound or "exact", and something that shows it (`tox -e static`)."""

import re
import sys

from mmrec import spec
from mmrec.conformance.ops import all_ops
from mmrec.conformance.traceability import Trace, trace_all


def problems_of(trace: Trace) -> list[str]:
    """What a clause of its kind still lacks."""
    clause, lacks = trace.clause, []
    if clause.kind == "note":
        return []
    if not trace.checks and not trace.tests:
        lacks.append("no check or test names it")
    if clause.kind == "normative":
        accuracy = re.search(r"^Accuracy: (.+)$", clause.text, re.MULTILINE)
        if accuracy is None:
            lacks.append('has no "Accuracy:" line (a bound, or the word "exact")')
        if not trace.reference and not trace.checks:
            lacks.append("no reference function or check cites it")
    return [f"{clause.id}: {lack}" for lack in lacks]


def unknown_ids() -> list[str]:
    """Clauses that op rows speak of and the spec does not have."""
    known = spec.clauses()
    return [
        f"{op.name}: cites {clause}, which is no clause"
        for op in all_ops().values()
        for clause in [*op.clauses, *op.adjoint_clauses, *(p.clause for p in op.properties)]
        if clause not in known
    ]


def check() -> list[str]:
    found = unknown_ids()
    for trace in trace_all().values():
        found += problems_of(trace)
    lost = set(spec.ledger()) | set(spec.contradictions())
    lost -= set(spec.coverage())
    return found + [f"{item}: lost from the coverage" for item in sorted(lost)]


if __name__ == "__main__":
    problems = check()
    print("\n".join(problems) or f"clauses: all {len(spec.clauses())} have what their kind needs")
    sys.exit(1 if problems else 0)
