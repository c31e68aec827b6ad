"""The result file: everything a run found, in one JSON document of a fixed schema, and the only source of every picture.

``result.json`` carries the spec's version and the text of the clauses judged, the subjects and their environment,
every assumption of the error model, the seed, and one record per check, op, dtype and subject. The terminal table,
the HTML report and comparisons read nothing else.
"""

import json
import math
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jsonschema

SCHEMA_VERSION = 1


def schema() -> dict[str, Any]:
    return json.loads((Path(__file__).parent / "result.schema.json").read_text())


def build(records: list[dict[str, Any]], *, profile: str, seed: int, seconds: float,
          experiments: list[dict[str, Any]], replay: str = "") -> dict[str, Any]:  # fmt: skip
    """The document for these records; of one case alone where that was replayed."""
    from mmrec import spec
    from mmrec.conformance.ops import all_ops
    from mmrec.numerics.error_model import model_for
    from mmrec.numerics.formats import FLOAT32, FLOAT64

    subjects = {record["subject"]: record["about"] for record in records}
    shown = {clause for record in records for clause in record["clauses"]} | {e["clause"] for e in experiments}
    clauses = {name: clause for name, clause in spec.clauses().items() if name in shown}
    ops = {name: op for name, op in all_ops().items() if name in {record["op"] for record in records}}
    return plain({
        "schema": SCHEMA_VERSION,
        "suite": suite_version(),
        "spec": spec.SPEC_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "profile": profile,
        "seed": seed,
        "replay": replay,
        "seconds": round(seconds, 1),
        "machine": {"system": platform.platform(), "python": platform.python_version(), "cores": os.cpu_count() or 0},
        "assumptions": {model.arithmetic.name: model.describe() for model in (model_for(FLOAT32), model_for(FLOAT64))},
        "subjects": subjects,
        "clauses": {name: {"title": c.title, "kind": c.kind, "chapter": c.chapter, "text": c.text, "source": c.source}
                    for name, c in clauses.items()},
        "ops": {name: {"arguments": dict(op.arguments), "bound": op.bound.__doc__ or "", "clauses": list(op.clauses),
                       "adjoint_clauses": list(op.adjoint_clauses)} for name, op in ops.items()},
        "records": [{key: value for key, value in record.items() if key != "about"} for record in records],
        "experiments": experiments,
    })  # fmt: skip


def suite_version() -> str:
    """The distribution's version; a tree that is run from a path has none."""
    try:
        return version("mmrec-conformance")
    except PackageNotFoundError:
        return "not installed"


def plain(value: Any) -> Any:
    """JSON has no infinities: they become the words "inf", "-inf" and "nan"."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def number(value: float | str | None) -> float:
    """The number that ``plain`` wrote."""
    return float(value) if value is not None else math.nan


def save(document: dict[str, Any], path: Path) -> None:
    jsonschema.validate(document, schema())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")


def read(path: Path) -> dict[str, Any]:
    """A result file; ValueError says in one line what is wrong with it."""
    return read_document(
        path, schema(), f"result file of schema {SCHEMA_VERSION}", "result.json written by `mmrec verify`"
    )


def read_document(path: Path, schema: dict[str, Any], kind: str, name: str) -> dict[str, Any]:
    """A JSON file of that schema; ValueError says in one line what is wrong with it."""
    try:
        document = json.loads(path.read_text())
        jsonschema.validate(document, schema)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; expected a {name}") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}; expected a {name}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: is not JSON: {error}; expected a {name}") from None
    except jsonschema.ValidationError as error:
        place = "/".join(map(str, error.absolute_path)) or "top level"
        raise ValueError(f"{path}: is not a {kind}: {place}: {error.message[:120]}") from None
    return document


def conforms(document: dict[str, Any]) -> bool:
    """Whether every record that reached a verdict conforms; an op that is not implemented is not judged."""
    judged = [r for r in document["records"] if not r["left_out"] and r["verdict"] != "NOT_IMPLEMENTED"]
    return bool(judged) and all(record["verdict"] in ("CONFORMS", "WAIVED") for record in judged)
