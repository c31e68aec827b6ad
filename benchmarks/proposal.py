"""Thresholds from measured runs: the worst value of all of them with some slack, as sections of thresholds.toml."""

import argparse
import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmrec.benchmarks.thresholds import FILE, Row, key_of
from mmrec.conformance import timings


def section_of(documents: list[dict[str, Any]], slack: float) -> str:
    """The sections of one kind of device, from the timings documents of runs on it."""
    first = documents[0]
    kind, software = first["device"]["kind"], first["software"]
    runs = "one run" if len(documents) == 1 else f"the worst of {len(documents)} runs"
    versions = ", ".join(f"{name} {version}" for name, version in software.items())
    lines = [f"[{kind}]",
             f'measured = "{first["created"][:10]}: {runs}, with a factor of {slack:g} of slack on both numbers"',
             f'machine = "{first["device"]["title"]}; {versions}"']  # fmt: skip
    rows = [row for document in documents for row in document["rows"] if not row["peer"] and not row["scaling"]]
    for dtype in sorted({row["dtype"] for row in rows}, reverse=True):
        lines += ["", f"[{kind}.{dtype}]", *lines_of((row for row in rows if row["dtype"] == dtype), slack)]
    return "\n".join(lines) + "\n"


def lines_of(rows: Iterable[Row], slack: float) -> list[str]:
    """A line an implementation, op and direction, or one for each size where their shares differ by more than the slack."""
    by_key: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        by_key[key_of(row)][row["size"]].append(row)
    lines = []
    for key, sizes in by_key.items():
        worst = {size: min(row["share"] for row in some) for size, some in sizes.items()}
        if max(worst.values()) > slack * min(worst.values()):
            lines += [line_of(f"{key} {size}", some, slack) for size, some in sizes.items()]
        else:
            lines.append(line_of(key, [row for some in sizes.values() for row in some], slack))
    return lines


def line_of(name: str, rows: list[Row], slack: float) -> str:
    share = rounded(min(row["share"] for row in rows) / slack, math.floor)
    ratios = [row["ratio"] for row in rows if row["ratio"] is not None]
    ratio = f", ratio_at_most = {rounded(max(ratios) * slack, math.ceil):g}" if ratios else ""
    return f'"{name}" = {{ share_at_least = {share:g}{ratio} }}'


def rounded(x: float, towards: Any) -> float:
    """Two digits, towards the looser side."""
    step = 10.0 ** (math.floor(math.log10(x)) - 1)
    return towards(x / step + (-1e-9 if towards is math.ceil else 1e-9)) * step


def replaced(text: str, section: str) -> str:
    """The file's text with this kind's sections in place of its old ones; everything else stays as it is."""
    kind = section[1 : section.index("]")]
    before: list[str] = []
    after: list[str] = []
    seen = belongs = False
    for line in text.splitlines(keepends=True):
        if line.startswith("["):
            belongs = line.startswith((f"[{kind}]", f"[{kind}."))
            seen = seen or belongs
        if not belongs:
            (after if seen else before).append(line)
    head = "".join(before).rstrip("\n") + "\n\n" if before else ""
    return head + section + ("\n" + "".join(after) if after else "")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m mmrec.benchmarks.thresholds",
                                     description="Make thresholds from the times of runs on one machine.")  # fmt: skip
    parser.add_argument("runs", nargs="+", type=Path, metavar="benchmarks.json")
    parser.add_argument("--slack", type=float, default=2.0, help="factor on both numbers (default: 2)")
    parser.add_argument("--write", action="store_true", help=f"put them into {FILE.name}; without it they are printed")
    given = parser.parse_args()
    try:
        documents = [timings.read(path) for path in given.runs]
    except ValueError as error:
        parser.error(str(error))
    titles = {document["device"]["title"] for document in documents}
    if len(titles) > 1:
        parser.error(f"the runs are of different devices: {', '.join(sorted(titles))}; give those of one")
    if given.slack < 1:
        parser.error(f"--slack: {given.slack:g} would ask for more than was measured, expected at least 1")
    section = section_of(documents, given.slack)
    if given.write:
        FILE.write_text(replaced(FILE.read_text(), section))
    else:
        print(section, end="")
