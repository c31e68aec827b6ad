"""The timings file: everything a benchmark run measured, in one JSON document of a fixed schema.

The benchmarks write ``benchmarks.json``; the report and the tables read it, and nothing else of the benchmarks.
"""

import json
from pathlib import Path
from typing import Any

import jsonschema

from mmrec.conformance.result import plain

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
    try:
        document = json.loads(path.read_text())
        jsonschema.validate(document, schema())
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; expected a benchmarks.json written by a benchmark run") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: is not JSON: {error}") from None
    except jsonschema.ValidationError as error:
        place = "/".join(map(str, error.absolute_path)) or "top level"
        raise ValueError(
            f"{path}: is not a timings file of schema {SCHEMA_VERSION}: {place}: {error.message[:120]}"
        ) from None
    return document
