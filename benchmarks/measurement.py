"""How often is a case called, and what is said about its time?"""

from collections.abc import Callable, Iterable
from typing import Any

from mmrec.benchmarks.cases import BASELINE, Case
from mmrec.benchmarks.device import Device
from mmrec.benchmarks.roofs import roof

# Seconds a round and a case may take, by kind of device. Rounds of several calls keep a GPU's queue full.
ROUND_SECONDS = {"cpu": 0.01, "cuda": 0.02}
CASE_SECONDS = {"cpu": 0.8, "cuda": 0.6}
FEWEST_ROUNDS, MOST_ROUNDS, MOST_CALLS = 3, 30, 500

Row = dict[str, Any]


def effort(work: Callable[[], Any], clock: Callable[[], float], kind: str) -> dict[str, int]:
    """How often to call it, from how long it takes once it is compiled and warm: benchmark.pedantic's arguments."""
    work()
    work()
    begin = clock()
    work()
    seconds = max(clock() - begin, 1e-6)
    calls = int(min(MOST_CALLS, max(1, ROUND_SECONDS[kind] / seconds)))
    rounds = int(min(MOST_ROUNDS, max(FEWEST_ROUNDS, CASE_SECONDS[kind] / (calls * seconds))))
    return {"rounds": rounds, "iterations": calls, "warmup_rounds": 1}


def described(case: Case) -> Row:
    return {"op": case.op, "implementation": case.implementation, "direction": case.direction,
            "shape": str(case.lengths), "dtype": case.dtype, "peer": case.peer}  # fmt: skip


def baseline_of(case: Case, rows: Iterable[Row]) -> float | None:
    """The baseline's seconds for the same work, if it was timed in this run."""
    same = (row["seconds"] for row in rows if row["implementation"] == BASELINE and row["group"] == case.group)
    return next(same, None)


def row_of(case: Case, device: Device, seconds: float, baseline: float | None) -> Row:
    """Everything a reader of the number needs; saved as pytest-benchmark's extra_info."""
    limit = roof(case, device)
    return {
        **described(case),
        "group": case.group,
        "device": device.title,
        "seconds": seconds,
        "bytes": limit.bytes,
        "operations": limit.operations,
        "roof_seconds": limit.seconds,
        "share": limit.seconds / seconds if seconds > 0 else float("inf"),
        "copy_share": limit.copy_seconds / seconds if seconds > 0 else float("inf"),
        "bound_by": limit.bound_by,
        "beyond_cache": limit.beyond_cache,
        "ratio": None if baseline is None else seconds / baseline,
    }
