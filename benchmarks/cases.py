"""What is timed: every op in every implementation, both directions, at sizes that suit the device."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from mmrec.conformance.ops import Op, all_ops

IMPLEMENTATIONS = {"torch": "torch", "triton": "torch", "jax": "jax"}  # the framework whose arrays each one takes
BASELINE = "torch"  # the first of its group, so that the others can be compared with it
DIRECTIONS = ("forward", "forward+backward")


@dataclass(frozen=True)
class Lengths:
    """The lengths behind the letters of an argument's shape."""

    B: int
    T: int
    D: int
    E: int = 1

    def shape(self, letters: str) -> tuple[int, ...]:
        return tuple(getattr(self, letter) for letter in letters)

    def __str__(self) -> str:
        return "-".join(f"{letter}{length}" for letter, length in asdict(self).items() if letter != "E" or length > 1)


@dataclass(frozen=True)
class Case:
    """One number to find."""

    op: str
    implementation: str
    framework: str
    direction: str
    lengths: Lengths
    dtype: str
    peer: bool = False  # not ours: timed beside ours, not judged

    @property
    def group(self) -> str:
        """What is compared with each other: all implementations of the same work."""
        return f"{self.op} {self.direction} {self.lengths} {self.dtype}"

    @property
    def row(self) -> Op:
        return all_ops()[self.op]

    def __str__(self) -> str:
        return f"{self.op}-{self.implementation}-{self.direction}-{self.lengths}-{self.dtype}"


@dataclass(frozen=True)
class Plan:
    """The sizes for one kind of device. Each entry is lengths and the dtypes timed at them."""

    scans: tuple[tuple[Lengths, tuple[str, ...]], ...]  # one state a channel: bound by memory
    recurrences: tuple[tuple[Lengths, tuple[str, ...]], ...]  # a matrix product a step: bound by the number of steps
    gates: tuple[tuple[Lengths, tuple[str, ...]], ...]  # matrix products over all steps at once

    def of(self, op: Op) -> tuple[tuple[Lengths, tuple[str, ...]], ...]:
        if not has_weights(op):
            return self.scans
        return self.recurrences if op.carry else self.gates


PLANS = {
    "cpu": Plan(
        scans=((Lengths(2, 1024, 512), ("float32",)),),
        recurrences=((Lengths(4, 64, 64), ("float32",)),),
        gates=((Lengths(4, 256, 256, 64), ("float32",)),),
    ),
    "cuda": Plan(
        scans=(
            (Lengths(1, 32768, 4096), ("float32", "bfloat16")),
            (Lengths(8, 32768, 1024), ("float32",)),
            (Lengths(16, 4096, 2048), ("float32",)),
        ),
        recurrences=((Lengths(8, 512, 128), ("float32", "bfloat16")),),
        gates=((Lengths(8, 4096, 1024, 256), ("float32", "bfloat16")),),
    ),
}


def has_weights(op: Op) -> bool:
    """Whether some argument is a matrix that every step is multiplied with."""
    return any(is_weight(letters) for letters in op.arguments.values())


def is_weight(letters: str) -> bool:
    return len(letters) == 2 and not set(letters) & {"B", "T"}


def cases_of(op: Op, kind: str) -> Iterator[Case]:
    """Ours, the baseline first in each group."""
    for lengths, dtypes in PLANS[kind].of(op):
        for dtype in dtypes:
            for direction in DIRECTIONS:
                for implementation in sorted(IMPLEMENTATIONS, key=lambda name: name != BASELINE):
                    yield Case(op.name, implementation, IMPLEMENTATIONS[implementation], direction, lengths, dtype)


def all_cases(kind: str) -> list[Case]:
    return [case for op in all_ops().values() for case in cases_of(op, kind)]
