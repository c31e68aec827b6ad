"""The timings file: everything a benchmark run measured, in one JSON document of a fixed schema.

The benchmarks write ``benchmarks.json``; the report and the tables read it, and nothing else of the benchmarks.
"""

import json
from pathlib import Path
from typing import Any

import jsonschema

from mmrec.conformance.result import plain, read_document

SCHEMA_VERSION = 1


def schema() -> dict[str, Any]:
    return json.loads((Path(__file__).parent / "timings.schema.json").read_text())


def save(document: dict[str, Any], path: Path) -> None:
    document = plain({"schema": SCHEMA_VERSION, **document})
    jsonschema.validate(document, schema())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")


def read(path: Path) -> dict[str, Any]:
    """A timings file; ValueError says in one line what is wrong with it."""
    return read_document(
        path, schema(), f"timings file of schema {SCHEMA_VERSION}", "benchmarks.json written by a benchmark run"
    )
