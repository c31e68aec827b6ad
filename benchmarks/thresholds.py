"""Is every implementation as fast as it was, and none faster than the device can be?

A threshold is a ratio of two times measured in the same run, so it can be checked on any machine of its kind:
`share_at_least` is the roof's time over the op's, `ratio_at_most` is the op's time over the baseline's. Its name is
"op direction implementation", which holds at every size, or that with a size, which holds there instead.

    python -m mmrec.benchmarks.thresholds results/benchmarks.json ... [--slack FACTOR] [--write]

makes the file's sections from the times of one or more runs (proposal.py).
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("thresholds.toml")
# Both rates are measured to within a few percent; a product may be faster in another library than in PyTorch.
IMPOSSIBLE_SHARE = {"copy": 1.15, "product": 1.5}
LIMITS = ("share_at_least", "ratio_at_most")
NOTES = ("measured", "machine")

Row = dict[str, Any]  # of the timings file


@dataclass(frozen=True)
class Threshold:
    """What one implementation of one op must reach in one direction and dtype."""

    share_at_least: float | None = None
    ratio_at_most: float | None = None


Table = Mapping[str, Threshold]  # by name, of one dtype


def key_of(row: Row) -> str:
    return f"{row['op']} {row['direction']} {row['implementation']}"


def described(row: Row) -> str:
    return f"{key_of(row)} {row['size']} {row['dtype']}"


def threshold_of(row: Row, tables: Mapping[str, Table]) -> Threshold | None:
    """The one that speaks of the row's size, else of its shape in every regime, else of all sizes."""
    table, key = tables.get(row["dtype"], {}), key_of(row)
    names = (f"{key} {row['size']}", f"{key} {row['shape']}", key)
    return next((table[name] for name in names if name in table), None)


def read(path: Path = FILE) -> dict[str, dict[str, dict[str, Threshold]]]:
    """Thresholds by kind of device, dtype, and name; ValueError says what is wrong with the file."""
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


def misses(rows: Iterable[Row], untimed: Iterable[Row], tables: Mapping[str, Table]) -> list[str]:
    """What falls short, one line each; what has a threshold and could not be timed falls short too."""
    found = []
    for row in rows:
        threshold = None if row["scaling"] else threshold_of(row, tables)
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
        if not row["scaling"] and threshold_of(row, tables) is not None:
            found.append(f"{described(row)}: {row['reason']}")
    return found


def suspicious(rows: Iterable[Row]) -> list[str]:
    """What is faster than the device can be: the measurement is wrong, or the op did not do its work."""
    found = []
    for row in rows:
        took = f"in {row['seconds'] * 1e3:.4g} ms"
        if row["beyond_cache"] and not row["copy_share"] <= IMPOSSIBLE_SHARE["copy"]:
            found.append(f"{described(row)}: {row['bytes'] / 1e6:.4g} MB {took}, {row['copy_share']:.3g} of what this "
                         "device copies in that time; no op moves its bytes faster than a copy does")  # fmt: skip
        elif row["bound_by"] == "product" and not row["share"] <= IMPOSSIBLE_SHARE["product"]:
            found.append(f"{described(row)}: {row['operations'] / 1e9:.4g} G operations {took}, {row['share']:.3g} of "
                         "what this device does in that time in one large matrix product")  # fmt: skip
    return found


if __name__ == "__main__":
    from mmrec.benchmarks.proposal import main

    main()
