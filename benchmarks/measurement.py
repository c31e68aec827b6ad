"""How often is a case called, and what is said about its time?"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from typing import Any

from mmrec.benchmarks.cases import Case, is_long_loop
from mmrec.benchmarks.clocks import clock_of
from mmrec.benchmarks.device import Device
from mmrec.benchmarks.implementations import BASELINE
from mmrec.benchmarks.roofs import roof
from mmrec.benchmarks.work import Source, prepare

# Seconds a round and a case may take, by kind of device. Rounds of several calls keep a GPU's queue full.
ROUND_SECONDS = {"cpu": 0.01, "cuda": 0.02}
CASE_SECONDS = {"cpu": 0.8, "cuda": 0.2}
LONGEST_CALL = {"cpu": 20.0, "cuda": 1.0}  # what would take longer is not called at all
FEWEST_ROUNDS, MOST_ROUNDS, MOST_CALLS = 3, 30, 500
PROBED = 64  # the part of the steps that is

Row = dict[str, Any]


def effort(work: Callable[[], Any], clock: Callable[[], float], kind: str) -> dict[str, int]:
    """How often to call it, from how long it takes once it is compiled and warm: benchmark.pedantic's arguments."""
    work()  # compiles
    seconds = _seconds(work, clock)
    if seconds < CASE_SECONDS[kind]:
        seconds = _seconds(work, clock)
    calls = int(min(MOST_CALLS, max(1, ROUND_SECONDS[kind] / seconds)))
    fewest = FEWEST_ROUNDS if seconds < CASE_SECONDS[kind] else 1
    rounds = int(min(MOST_ROUNDS, max(fewest, CASE_SECONDS[kind] / (calls * seconds))))
    return {"rounds": rounds, "iterations": calls, "warmup_rounds": 1 if seconds < CASE_SECONDS[kind] else 0}


def too_slow(case: Case, source: Source, device: Device, sharers: int = 1) -> str:
    """Why a long loop is not even tried, or "": from the time of a few of its steps, which all cost the same. Of a device
    that so many processes share, each has to wait for the others: there a call may take as many times longer.

    Where that says no, it is asked again from the time that as many more steps take: what a call takes however many
    there are does not grow with them, and who solves a recurrence in parallel takes little else.
    """
    if not is_long_loop(case):
        return ""
    few, limit = case.lengths.T // PROBED, LONGEST_CALL[device.kind] * sharers
    first = _seconds_of_steps(few, case, source, device)
    if PROBED * first <= limit:
        return ""
    more = max(0.0, _seconds_of_steps(2 * few, case, source, device) - first)
    estimate = first + (PROBED - 1) * more
    if estimate <= limit:
        return ""
    return (f"not timed: {case.implementation}, {case.group} would take about {estimate:.2g} s, by what its {few} and "
            f"{2 * few} first steps take; a call may take {limit:g} s")  # fmt: skip


def _seconds_of_steps(steps: int, case: Case, source: Source, device: Device) -> float:
    """The better of two calls that take so many steps, after one that compiles."""
    work = prepare(source, replace(case, lengths=replace(case.lengths, T=steps)), device)
    clock = clock_of(case.framework, device.kind)
    work()
    return min(_seconds(work, clock) for _ in range(2))


def _seconds(work: Callable[[], Any], clock: Callable[[], float]) -> float:
    begin = clock()
    work()
    return max(clock() - begin, 1e-6)


def described(case: Case) -> Row:
    return {"op": case.op, "implementation": case.implementation, "direction": case.direction,
            "shape": str(case.lengths), "lengths": asdict(case.lengths), "regime": case.regime, "size": case.size,
            "dtype": case.dtype, "layout": case.layout, "peer": case.peer, "scaling": case.scaling,
            "group": case.group}  # fmt: skip


def baseline_of(case: Case, rows: Iterable[Row]) -> float | None:
    """The baseline's seconds for the same work, if it was timed in this run."""
    same = (row["seconds"] for row in rows if row["implementation"] == BASELINE and row["group"] == case.group)
    return next(same, None)


def row_of(case: Case, device: Device, seconds: float, baseline: float | None) -> Row:
    """Everything a reader of the number needs; saved as pytest-benchmark's extra_info and in the timings file."""
    limit = roof(case, device)
    return {
        **described(case),
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
