"""Where a clause lives: the reference functions that are it, its bound, the checks and tests that show it.

Nothing is listed by hand. Reference functions name their clauses in their docstring and on the line that is the
clause; op rows and conformance tests name the clauses they show.
"""

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import mmrec.conformance
import mmrec.numerics
import mmrec.reference
from mmrec.conformance.ops import all_ops
from mmrec.spec import Clause, clauses


@dataclass
class Trace:
    """Everything that speaks of one clause."""

    clause: Clause
    reference: dict[str, str] = field(default_factory=dict)  # "module.function" -> source text
    bounds: dict[str, str] = field(default_factory=dict)  # op -> derivation
    checks: list[str] = field(default_factory=list)  # conformance checks, by sentence
    tests: list[str] = field(default_factory=list)  # the project's own tests that name it


def trace(clause_id: str) -> Trace:
    """Follow one clause through reference, numerics and conformance."""
    return trace_all([clause_id])[clause_id]


def trace_all(ids: list[str] | None = None) -> dict[str, Trace]:
    """Follow all clauses (or those given)."""
    known = clauses()
    traces = {name: Trace(known[name]) for name in (ids if ids is not None else known)}
    for name, source in _functions(mmrec.reference, mmrec.numerics):
        for clause in _ids_in(source, traces):
            traces[clause].reference[name] = source
    for op in all_ops().values():
        shown = {
            "every value is within its bound": op.clauses,
            "every gradient is within its bound": op.adjoint_clauses,
        }
        for sentence, ids_shown in shown.items():
            for clause in set(ids_shown) & set(traces):
                traces[clause].checks.append(f"{sentence} ({op.name})")
                traces[clause].bounds[op.name] = op.bound.__doc__ or ""
        for prop in op.properties:
            if prop.clause in traces:
                traces[prop.clause].checks.append(f"{prop.sentence} ({op.name})")
    for sentence, ids_shown in _demands():
        for clause in set(ids_shown) & set(traces):
            traces[clause].checks.append(sentence)
    for path in _test_files():
        for clause in _ids_in(path.read_text(), traces):
            traces[clause].tests.append(f"{path.parent.parent.name}/tests/{path.name}")
    return traces


def _ids_in(text: str, ids: Any) -> Iterator[str]:
    words = set(re.findall(r"(?<![\w-])[A-Z]+(?:-[A-Z]+)*-\d+(?![\w-])", text))
    return (clause for clause in ids if clause in words)


def _functions(*packages: ModuleType) -> Iterator[tuple[str, str]]:
    for package in packages:
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if ".tests" in found.name:
                continue
            module = importlib.import_module(found.name)
            for name, thing in vars(module).items():
                own = isinstance(thing, FunctionType | type) and thing.__module__ == found.name
                if own and not name.startswith("__"):
                    yield f"{found.name}.{name}", inspect.getsource(thing)


def _demands() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each conformance test's name as a sentence, with the clauses it demands by name."""
    for path in sorted(_folder(mmrec.conformance).glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                calls = [n for n in ast.walk(node) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
                ids = tuple(a.value for call in calls if call.func.attr == "demand"  # type: ignore[attr-defined]
                       for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str))  # fmt: skip
                if ids:
                    yield node.name.removeprefix("test_").replace("_", " "), ids


def _test_files() -> Iterator[Path]:
    """The project's own tests; an installed wheel has none."""
    root = _folder(mmrec.conformance).parent
    for room in ("spec", "reference", "numerics", "conformance", "impls"):
        yield from sorted((root / room / "tests").glob("test_*.py"))


def _folder(package: ModuleType) -> Path:
    return Path(package.__path__[0])
