"""A run as the document of the timings file."""

import platform
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mmrec.benchmarks.peer_check import WRONG_BEYOND
from mmrec.benchmarks.run import Run

PACKAGES = ("torch", "triton", "jax", "fla-core", "accelerated-scan")


def document_of(run: Run) -> dict[str, Any]:
    assert run.device is not None, "rows come from a device"
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": asdict(run.device),
        "software": {"python": platform.python_version(), **_versions()},
        "wrong_beyond": WRONG_BEYOND,
        "rows": [{name: value for name, value in row.items() if name != "device"} for row in run.rows],
        "untimed": run.untimed,
        "problems": run.problems,
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
