"""What is a case: one number to find, and how it is named."""

from dataclasses import asdict, dataclass

from mmrec.conformance.ops import Op, all_ops

DIRECTIONS = ("forward", "forward+backward")
LONG_LOOP = 4096  # steps, from which on a few of them are timed first


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
    regime: str = ""  # of the inputs, where the time may depend on them: a name of plans.REGIMES
    layout: str = "BTD"  # of sequences in memory, the last axis contiguous; ours is BTD
    peer: bool = False  # not ours: timed beside ours, not judged
    scaling: bool = False  # a point of the report's scaling figure, not a line of the table

    @property
    def size(self) -> str:
        """Lengths, and the regime where there is one: what thresholds name."""
        return f"{self.lengths} {self.regime}".strip()

    @property
    def group(self) -> str:
        """What is compared with each other: all implementations of the same work."""
        return f"{self.op} {self.direction} {self.size} {self.dtype}"

    @property
    def row(self) -> Op:
        return all_ops()[self.op]

    def __str__(self) -> str:
        parts = [self.op, self.implementation, *([self.layout] if self.peer else []), self.direction,
                 str(self.lengths), *([self.regime] if self.regime else []), self.dtype]  # fmt: skip
        return "-".join(["scaling", *parts] if self.scaling else parts)


def has_weights(op: Op) -> bool:
    """Whether some argument is a matrix that every step is multiplied with."""
    return any(is_weight(letters) for letters in op.arguments.values())


def measures_to_compile(case: Case) -> bool:
    """Whether the compiler times ways to compute it, on the device, and takes the fastest: XLA does for matrix products."""
    return case.framework == "jax" and has_weights(case.row)


def is_weight(letters: str) -> bool:
    return len(letters) == 2 and not set(letters) & {"B", "T"}


def is_long_loop(case: Case) -> bool:
    """Whether it may take one step after the other, and many of them."""
    return case.lengths.T >= LONG_LOOP and has_weights(case.row) and bool(case.row.carry)
