"""What is timed on each kind of device: sizes, dtypes and regimes for each sort of op, and the points of scaling.

A scan moves one state a channel and is bound by memory; a recurrence multiplies its state by a matrix at every step;
a gate multiplies all steps at once. Which of them an op is follows from its row.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from mmrec.benchmarks.cases import DIRECTIONS, Case, Lengths, has_weights, is_long_loop, measures_to_compile
from mmrec.benchmarks.implementations import implementations
from mmrec.conformance.ops import Op, all_ops

BOTH = ("float32", "bfloat16")


@dataclass(frozen=True)
class Regime:
    """How long the memory is: decays within a tenth of their distance to 0 or 1, other sequences normal."""

    decay: float
    scale: float = 1.0


# A recurrence that is solved in parallel over time takes as long as its memory reaches; a loop does not care.
REGIMES = {
    "decay0.05": Regime(0.05),
    "decay0.9": Regime(0.9),
    "decay0.99-input0.1": Regime(0.99, 0.1),
}


@dataclass(frozen=True)
class Size:
    """Lengths with the dtypes and regimes that are timed at them."""

    lengths: Lengths
    dtypes: tuple[str, ...]
    regimes: tuple[str, ...] = ("",)


@dataclass(frozen=True)
class Plan:
    """The sizes for one kind of device, the most important one first."""

    scans: tuple[Size, ...]
    recurrences: tuple[Size, ...]
    gates: tuple[Size, ...]

    def of(self, op: Op) -> tuple[Size, ...]:
        if not has_weights(op):
            return self.scans
        return self.recurrences if op.carry else self.gates


@dataclass(frozen=True)
class Scaling:
    """One op in one dtype, forward, at lengths that differ from ``base`` in one letter."""

    op: str
    dtype: str
    base: Lengths
    axes: dict[str, tuple[int, ...]]

    def points(self) -> list[Lengths]:
        found = [replace(self.base, **{axis: length}) for axis, some in self.axes.items() for length in some]
        return list(dict.fromkeys([self.base, *found]))


PLANS = {
    "cpu": Plan(
        scans=(
            Size(Lengths(2, 1024, 512), ("float32",)),
            Size(Lengths(2, 4096, 1024), ("float32",)),  # beyond most caches
        ),
        recurrences=(Size(Lengths(4, 64, 64), ("float32",)),),
        gates=(Size(Lengths(4, 256, 256, 64), ("float32",)),),
    ),
    "cuda": Plan(
        scans=(
            Size(Lengths(1, 32768, 4096), BOTH),
            Size(Lengths(1, 131072, 1024), BOTH),  # few channels: a kernel must split over time
            Size(Lengths(8, 32768, 1024), BOTH),
            Size(Lengths(16, 4096, 2048), BOTH),
        ),
        recurrences=(
            Size(Lengths(1, 32768, 4096), ("bfloat16",), tuple(REGIMES)),
            Size(Lengths(8, 512, 128), BOTH),
        ),
        gates=(Size(Lengths(8, 4096, 1024, 256), BOTH),),
    ),
}

SCALING = {
    "cpu": (
        Scaling("linear_recurrence", "float32", Lengths(2, 512, 256),
                {"T": (128, 512, 2048), "B": (1, 2, 8), "D": (64, 256, 1024)}),
        Scaling("gated_recurrence", "float32", Lengths(2, 64, 64),
                {"T": (16, 64, 256), "B": (1, 2, 8), "D": (16, 64, 256)}),
    ),
    "cuda": (
        Scaling("linear_recurrence", "float32", Lengths(2, 8192, 2048),
                {"T": (512, 2048, 8192, 32768), "B": (1, 2, 8, 32), "D": (128, 512, 2048, 8192)}),
        Scaling("gated_recurrence", "bfloat16", Lengths(1, 2048, 1024),
                {"T": (512, 2048, 8192), "B": (1, 8, 64), "D": (128, 1024, 4096)}),
    ),
}  # fmt: skip


def plan_cases(kind: str) -> Iterator[Case]:
    """Ours at every size, the baseline first in each group."""
    for op in all_ops().values():
        for size in PLANS[kind].of(op):
            for dtype in size.dtypes:
                for regime in size.regimes:
                    for direction in DIRECTIONS:
                        yield from _each(op.name, direction, size.lengths, dtype, regime)


def scaling_cases(kind: str) -> Iterator[Case]:
    for scaling in SCALING[kind]:
        for lengths in scaling.points():
            yield from _each(scaling.op, "forward", lengths, scaling.dtype, scaling=True)


def _each(op: str, direction: str, lengths: Lengths, dtype: str, regime: str = "", scaling: bool = False
          ) -> Iterator[Case]:  # fmt: skip
    for name, one in implementations().items():
        if op in one.timed_ops:
            yield Case(op, name, one.framework, direction, lengths, dtype, regime, scaling=scaling)


def only(cases: list[Case], names: list[str]) -> list[Case]:
    """Those of these implementations, and of the peers in the same frameworks; all where no name is given.

    ValueError where there is no such implementation.
    """
    if not names:
        return cases
    unknown = set(names) - set(implementations())
    if unknown:
        known = ", ".join(implementations())
        raise ValueError(f"--implementation: {', '.join(sorted(unknown))}: there is none; expected some of {known}")
    frameworks = {implementations()[name].framework for name in names}
    return [case for case in cases if (case.framework in frameworks if case.peer else case.implementation in names)]


def in_order(cases: list[Case]) -> list[Case]:
    """The order in which they are timed, so that what a spent budget leaves out is what matters least.

    The first size of every op comes before the others, and what is compared is timed together: the baseline, ours, then
    the peers. Of the first sizes as of the others JAX comes after PyTorch, since it does not give memory back once it has
    it. Loops of thousands of steps, of which one takes as long as a hundred scans, come after the rest of their kind. What
    is compiled where it is timed (compile_ahead.py), for ten seconds and more, comes after that, and the points of
    scaling last.
    """
    sizes: dict[str, dict[Lengths, int]] = defaultdict(dict)
    for case in cases:
        sizes[case.op].setdefault(case.lengths, len(sizes[case.op]))
    groups = {group: place for place, group in enumerate(dict.fromkeys(case.group for case in cases))}

    def place(case: Case) -> tuple[Any, ...]:
        size = sizes[case.op][case.lengths]
        slow = measures_to_compile(case)
        return (case.scaling, slow, size > 0, case.framework == "jax", is_long_loop(case), size, groups[case.group],
                case.peer)  # fmt: skip

    return sorted(cases, key=place)
