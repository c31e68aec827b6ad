"""Did a kernel get heavier? Its compiled figures beside stored ones, and the limits.

The figures file is a snapshot that people accept by rewriting it (`mmrec figures`), so that a heavier kernel shows in
the review of the change that makes it so. It holds only for the Triton that wrote it: compilers differ more than
changes do. Where it does not hold, or lacks a kernel, the base revision is compiled by the same Triton and stands in.
A kernel that is in neither is new, and must only not spill.
"""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmrec.conformance.gate import WrongCall
from mmrec.conformance.gate.compiling import Kernels, Weights

SCHEMA_VERSION = 1
SHOWN = ("registers", "spills", "stack", "shared", "instructions", "per_turn", "resident")

# A compiler gives the same code twice, so any growth is the change's. A tenth is where it is worth a person's look:
# less than the slowdown the gate is to find without a GPU (20 %), more than a rewritten index computation costs.
MOST_GROWTH = 1.10

# What a multiprocessor holds, from NVIDIA's tables of compute capabilities: registers, warps, programs, and bytes of
# shared memory, of which each program takes 1 KiB for the system. Registers come in units of 8 a thread.
REGISTERS, WARPS, PROGRAMS, SYSTEM_SHARED = 65536, 64, 32, 1024
SHARED = {"sm_80": 164 * 1024, "sm_90": 228 * 1024}


@dataclass(frozen=True)
class Row:
    """One variant of a kernel on one architecture."""

    file: str
    variant: str
    architecture: str
    before: Weights | None  # None for a new kernel
    now: Weights
    source: str  # of `before`: "stored", "base" or ""

    @property
    def failures(self) -> list[str]:
        """Why it is too heavy; empty when it is not."""
        return list(failures_of(self.before, self.now))

    @property
    def changed(self) -> bool:
        return self.before != self.now


def resident_warps(weights: Weights, architecture: str) -> int:
    """Warps that a multiprocessor can hold at once: what registers and shared memory cost in the end."""
    registers = -(-weights["registers"] // 8) * 8 * 32 * weights["warps"]
    shared = weights["shared"] + SYSTEM_SHARED
    programs = min(PROGRAMS, WARPS // weights["warps"], REGISTERS // registers, SHARED[architecture] // shared)
    return programs * weights["warps"]


def failures_of(before: Weights | None, now: Weights) -> Iterator[str]:
    """What is beyond its limit, in words."""
    if "error" in now:
        yield f"does not compile: {now['error']}"
        return
    if before is None or "error" in before:
        before = {**now, "spills": 0, "stack": 0}
    for name, what in (("spills", "spill instructions"), ("stack", "bytes of stack")):
        if now[name] > before[name]:
            yield f"{before[name]} -> {now[name]} {what}"
    # Outside loops an instruction is executed once; and how often a loop is unrolled is the assembler's affair.
    name, what = ("per_turn", "instructions a turn") if before["per_turn"] else ("instructions", "instructions")
    if now[name] > MOST_GROWTH * before[name]:
        yield f"{before[name]} -> {now[name]} {what} ({100 * (now[name] / before[name] - 1):+.0f} %)"
    if now["resident"] * MOST_GROWTH < before["resident"]:
        causes = ", ".join(f"{before[name]} -> {now[name]} {name}" for name in ("registers", "shared", "warps")
                           if before[name] != now[name])  # fmt: skip
        yield f"{before['resident']} -> {now['resident']} resident warps ({causes})"


def with_resident(kernels: Kernels) -> Kernels:
    """The same with the number of resident warps, which follows from the other figures."""
    return {
        file: {
            variant: {
                name: weights if "error" in weights else {**weights, "resident": resident_warps(weights, name)}
                for name, weights in architectures.items()
            }
            for variant, architectures in variants.items()
        }
        for file, variants in kernels.items()
    }


def earlier(kept: Kernels, kernels: Kernels, changed: Collection[str], file: str, variant: str) -> dict[str, Weights]:
    """What was kept of a variant, by architecture: in its file, or in a changed one that has it no more (it moved)."""
    left = (one for one, variants in kept.items()
            if one in changed and variant in variants and variant not in kernels.get(one, {}))  # fmt: skip
    home = file if variant in kept.get(file, {}) else next(left, file)
    return kept.get(home, {}).get(variant, {})


def lacking(kernels: Kernels, stored: Kernels, changed: Collection[str] = ()) -> list[str]:
    """Files with a kernel that the stored figures do not speak of."""
    return [file for file, variants in kernels.items()
            if any(not names.keys() <= earlier(stored, kernels, changed, file, variant).keys()
                   for variant, names in variants.items())]  # fmt: skip


def gone(kernels: Kernels, before: Kernels, changed: Collection[str]) -> list[str]:
    """Variants of changed files that are compiled nowhere any more: what nobody lists is not weighed."""
    new = {variant for file, variants in kernels.items() for variant in variants if variant not in before.get(file, {})}
    return [f"{file}, {variant}" for file, variants in before.items() if file in changed or file in kernels
            for variant in variants if variant not in kernels.get(file, {}) and variant not in new]  # fmt: skip


def compare(kernels: Kernels, stored: Kernels, base: Kernels, changed: Collection[str] = ()) -> list[Row]:
    """Every compiled kernel beside its stored figures, or the base revision's where none are stored."""
    rows = []
    for file, variants in kernels.items():
        for variant, architectures in variants.items():
            sources = {"stored": earlier(stored, kernels, changed, file, variant),
                       "base": earlier(base, kernels, changed, file, variant)}  # fmt: skip
            for name, now in architectures.items():
                source = next((source for source, kept in sources.items() if name in kept), "")
                rows.append(Row(file, variant, name, sources[source][name] if source else None, now, source))
    return rows


# ---- the file -------------------------------------------------------------------------------


def read_figures(path: Path, triton: str) -> tuple[Kernels, str]:
    """The stored figures that hold for this Triton, and why there are none, or ""."""
    if not path.is_file():
        return {}, f"{path.name} is not there"
    try:
        document: dict[str, Any] = json.loads(path.read_text())
        made_with, kernels = document["triton"], document["kernels"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise WrongCall(
            f"--figures: {path}: is not a file of figures ({error}); `mmrec figures` writes one anew"
        ) from None
    if made_with != triton:
        return {}, f"{path.name} is of triton {made_with}"
    return with_resident(kernels), ""


def write_figures(path: Path, triton: str, kernels: Kernels) -> None:
    """One line a variant, so that a difference reads well; what follows from other figures is not stored."""
    lines = []
    for file in sorted(kernels):
        variants = ",\n".join(
            f"   {json.dumps(name)}: {json.dumps(kernels[file][name])}" for name in sorted(kernels[file])
        )
        lines.append(f"  {json.dumps(file)}: {{\n{variants}\n  }}")
    head = f'{{\n "schema": {SCHEMA_VERSION},\n "triton": {json.dumps(triton)},\n "kernels": {{\n'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(head + ",\n".join(lines) + "\n }\n}\n")
