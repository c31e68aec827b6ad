"""What did the judge pass? A number is only shown for an op, implementation and dtype whose records all conform.

The verdicts come from a result file of the conformance suite. What the file does not speak of, or judged on another
device or in another version, is judged first, quickly: every value and every gradient, profile quick, in a process of its own.
"""

import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from mmrec.benchmarks.device import Device
from mmrec.benchmarks.implementations import implementations
from mmrec.conformance import plugin, result
from mmrec.conformance.subjects import source_of

Judged = tuple[str, str, str]  # subject, op, dtype
PASSED = ""
NEEDED = ("every_value", "every_gradient")  # begin the names of the checks without which nothing has passed
CHECKS = ("test_values", "test_gradients"), " or ".join(NEEDED)


class Refused(Exception):
    """The result file that was named cannot be used; the message says why."""


def verdicts(document: dict[str, Any], devices: Collection[str]) -> dict[Judged, str]:
    """Why each (subject, op, dtype) judged on a device of that name may not be timed; PASSED where it may.

    A verdict on other code than that which is here says nothing, and neither does a run that judged less than every value
    and every gradient, or one replayed case: it may only have failed.
    """
    found: dict[Judged, str] = {}
    kept: dict[Judged, set[str]] = defaultdict(set)
    same = {name for name, about in document["subjects"].items()
            if about["environment"].get("device") in devices and about.get("source") == source_of(name)}  # fmt: skip
    for record in document["records"]:
        if record["subject"] not in same or record["left_out"] or record["verdict"] == "NOT_IMPLEMENTED":
            continue
        key = record["subject"], record["op"], record["dtype"]
        if record["verdict"] in ("CONFORMS", "WAIVED"):
            kept[key] |= {name for name in NEEDED if record["check"].startswith(name)}
        else:
            found.setdefault(
                key, f"{record['verdict']} in {record['check'].replace('_', ' ')} ({', '.join(record['clauses'])})"
            )
    whole = {key: PASSED for key, checks in kept.items() if checks == set(NEEDED)}
    return found if document.get("replay") else {**whole, **found}


class Judgement:
    """The verdicts on everything that is to be timed."""

    def __init__(self, verdicts: dict[Judged, str], sources: dict[Judged, str]):
        self.verdicts, self.sources = verdicts, sources

    def reason_against(self, judged: Judged) -> str:
        """Why it may not be timed, or "" when it passed."""
        if judged not in self.verdicts:
            return f"not timed: the judge reached no verdict on {' '.join(judged)}"
        reason = self.verdicts[judged]
        return f"not timed: {' '.join(judged)} does not conform: {reason}; {self.sources[judged]}" if reason else ""


def judgement(wanted: Iterable[Judged], path: Path | None, devices: Collection[str], say: Any = print) -> Judgement:
    """Verdicts from the result file at ``path``, if there is one, and from a quick run for what it lacks."""
    found, sources = {}, {}
    if path is not None:
        found = verdicts(_read(path), devices)
        sources = dict.fromkeys(found, f"judged in {path}")
    lacking = sorted(set(wanted) - set(found))
    if lacking:
        names = ", ".join(sorted({subject for subject, _, _ in lacking}))
        where = (
            f"{path} has no verdict on some of it, as it is here and on this device"
            if path
            else "there is no result file"
        )
        say(f"judging {names} first ({where}): values and gradients of what is timed, profile quick")
        quick = verdicts(judge_quickly(lacking), devices)
        found = {**quick, **found}
        sources = {**dict.fromkeys(quick, "judged quickly in this run"), **sources}
    return Judgement(found, sources)


def names_of(device: Device, wanted: Iterable[Judged]) -> set[str]:
    """What the frameworks call this device, which is what the result file calls it."""
    if "jax" not in {implementations()[subject].framework for subject, _, _ in wanted}:
        return {device.name}
    import jax

    return {device.name, jax.devices()[0].device_kind}


def _read(path: Path) -> dict[str, Any]:
    try:
        return result.read(path)
    except ValueError as error:
        raise Refused(str(error)) from None


def judge_quickly(wanted: Iterable[Judged]) -> dict[str, Any]:
    """The result document of a quick conformance run over these subjects, ops and dtypes."""
    chosen = []
    for option, names in zip(("subject", "op", "dtype"), map(sorted, map(set, zip(*wanted, strict=True))), strict=True):
        chosen += [f"--mmrec-{option}={name}" for name in names]
    modules, expression = CHECKS
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pytest", "-p", "no:benchmark", *plugin.arguments(), "-q",
                   "--pyargs", *(f"mmrec.conformance.{name}" for name in modules), "-k", expression,
                   "--mmrec-profile=quick", f"--mmrec-result={folder}", *chosen,
                   "-n", str(os.cpu_count() or 1), "--dist=loadgroup"]  # fmt: skip
        ran = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
        path = Path(folder, "result.json")
        if not path.is_file():
            said = (ran.stdout + ran.stderr)[-2000:]
            raise Refused(f"the quick judgement gave no result: {' '.join(command)}\n{said}")
        return result.read(path)


def environment() -> dict[str, str]:
    """This process's for a child, without what belongs to the pytest run around it."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "BENCHMARK_"))}
    return {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", **ours}  # JAX would take three quarters of the GPU
