"""Is every implementation as fast as it was, and none faster than the device can be?

A threshold is a ratio of two times measured in the same run, so it can be checked on any machine of its kind:
`share_at_least` is the roof's time over the op's, `ratio_at_most` is the op's time over the baseline's.

    python -m mmrec.benchmarks.thresholds [--slack FACTOR] RUN.json ...

prints thresholds from saved runs (--benchmark-json): the worst value of all of them, and a factor of slack.
"""

import argparse
import json
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("thresholds.toml")
IMPOSSIBLE_SHARE = 1.15  # of the copy rate; the rate itself is measured to within a few percent
LIMITS = ("share_at_least", "ratio_at_most")
NOTES = ("measured", "machine", "slack")

Row = dict[str, Any]  # a case's extra_info, with "seconds"


@dataclass(frozen=True)
class Threshold:
    """What one implementation of one op must reach in one direction and dtype, at every size of the plan."""

    share_at_least: float | None = None
    ratio_at_most: float | None = None


def key_of(row: Row) -> str:
    return f"{row['op']} {row['direction']} {row['implementation']}"


def read(path: Path = FILE) -> dict[str, dict[str, dict[str, Threshold]]]:
    """Thresholds by kind of device, dtype, and "op direction implementation"; ValueError says what is wrong."""
    try:
        document = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: is not TOML: {error}") from None
    found: dict[str, dict[str, dict[str, Threshold]]] = {}
    for kind, section in document.items():
        if not isinstance(section.get("measured"), str):
            raise ValueError(f'{path}: [{kind}] does not say when and how it was measured: expected measured = "..."')
        tables = {dtype: table for dtype, table in section.items() if dtype not in NOTES}
        found[kind] = {dtype: {name: _threshold(path, f"{kind}.{dtype}", name, entry) for name, entry in table.items()}
                       for dtype, table in tables.items()}  # fmt: skip
    return found


def _threshold(path: Path, section: str, name: str, entry: Any) -> Threshold:
    unknown = set(entry) - set(LIMITS) if isinstance(entry, dict) else {str(entry)}
    if unknown or not entry:
        given = ", ".join(sorted(unknown)) or "is empty"
        raise ValueError(f'{path}: [{section}] "{name}": {given}; expected some of {", ".join(LIMITS)}')
    return Threshold(**entry)


def misses(rows: Iterable[Row], untimed: Iterable[Row], thresholds: dict[str, dict[str, Threshold]]) -> list[str]:
    """What falls short, one line each; what has a threshold and could not be timed falls short too."""
    found = []
    for row in rows:
        threshold = thresholds.get(row["dtype"], {}).get(key_of(row))
        if threshold is None:
            continue
        least, most = threshold.share_at_least, threshold.ratio_at_most
        if least is not None and not row["share"] >= least:
            found.append(f"{described(row)}: {row['share']:.3g} of the limit, at least {least:g} expected")
        if most is not None and row["ratio"] is None:
            found.append(f"{described(row)}: the baseline was not timed in this run, so the ratio is unknown")
        elif most is not None and not row["ratio"] <= most:
            found.append(f"{described(row)}: {row['ratio']:.3g} times the baseline's time, at most {most:g} expected")
    for row in untimed:
        if key_of(row) in thresholds.get(row["dtype"], {}):
            found.append(f"{described(row)}: {row['reason']}")
    return found


def suspicious(rows: Iterable[Row]) -> list[str]:
    """What is faster than memory can be: the measurement is wrong, or the op did not do its work."""
    return [
        f"{described(row)}: {row['bytes'] / 1e6:.4g} MB in {row['seconds'] * 1e3:.4g} ms, {row['copy_share']:.3g} of "
        "what this device copies in that time; no op moves its bytes faster than a copy does"
        for row in rows
        if row["beyond_cache"] and not row["copy_share"] <= IMPOSSIBLE_SHARE
    ]


def described(row: Row) -> str:
    return f"{key_of(row)} {row['shape']} {row['dtype']}"


def proposed(rows: Iterable[Row], slack: float = 2.0) -> list[str]:
    """The lines of a dtype's table: the worst share and ratio of every implementation, with slack on both."""
    worst: dict[str, tuple[float, float]] = {}
    for row in rows:
        if not row["peer"]:
            share, ratio = worst.get(key_of(row), (float("inf"), 0.0))
            worst[key_of(row)] = min(share, row["share"]), max(ratio, row["ratio"] or 0.0)
    return [
        f'"{name}" = {{ share_at_least = {share / slack:.1g}'
        + (f", ratio_at_most = {ratio * slack:.2g} }}" if ratio else " }")
        for name, (share, ratio) in worst.items()
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Propose thresholds from saved runs.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN.json")
    parser.add_argument("--slack", type=float, default=2.0, help="factor on both numbers (default: 2)")
    given = parser.parse_args()
    saved = [benchmark["extra_info"] for run in given.runs for benchmark in json.loads(run.read_text())["benchmarks"]]
    for dtype in sorted({row["dtype"] for row in saved}):
        print(f"\n[{dtype}]", *proposed((row for row in saved if row["dtype"] == dtype), given.slack), sep="\n")
