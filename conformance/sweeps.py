"""Which arguments `calibrate` evaluates: stretches of bit patterns of one operand, random pairs of two.

A sweep belongs to one function and one kind of numbers: everything normal, results that are subnormal, or operands
that are. One operand runs through every float32 of its intervals with stride 1; with a longer stride each interval
gets the same share of points, so that a narrow one, where a function is delicate, is looked at more densely. Float64
is sampled, ``SAMPLES`` of each interval. All chunks of a format have one length, so that frameworks that compile,
compile once.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mmrec.conformance.elementary import TWO_OPERANDS
from mmrec.numerics.formats import FLOAT32, Format

CHUNK = 2**16
SAMPLES = 1000
PATTERNS = 2**31  # float32 numbers of one sign; divided by the stride, the points of an interval

NORMAL, SUBNORMAL_RESULTS, SUBNORMAL_OPERANDS = "normal numbers", "subnormal results", "subnormal operands"
KINDS = (NORMAL, SUBNORMAL_RESULTS, SUBNORMAL_OPERANDS)

Operands = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Sweep:
    """The arguments of one function and kind, in chunks."""

    form: Format
    function: str
    kind: str
    stride: int

    def chunks(self) -> Iterator[Operands]:
        if self.function in TWO_OPERANDS:
            rng = np.random.default_rng(1)
            for _ in range(self._chunks_of_pairs()):
                yield pairs(rng, self.form, self.function, self.kind, self._length)
        else:
            for low, high in intervals(self.form, self.function, self.kind):
                yield from ((x,) for x in self._stretch(low, high))

    def __len__(self) -> int:
        """How many chunks there are."""
        if self.function in TWO_OPERANDS:
            return self._chunks_of_pairs()
        return sum(len(self._starts(*self._patterns(*ends))) for ends in intervals(self.form, self.function, self.kind))

    @property
    def _length(self) -> int:
        return CHUNK if self.form is FLOAT32 else SAMPLES

    def _chunks_of_pairs(self) -> int:
        return max(1, PATTERNS // (self.stride * CHUNK)) if self.form is FLOAT32 else 1

    def _patterns(self, low: float, high: float) -> tuple[int, int, int]:
        """First and last bit pattern of the interval's magnitudes, and the step between two looked at."""
        integer = np.dtype(f"int{8 * self.form.dtype.itemsize}")
        first, last = (int(np.asarray(abs(x), self.form.dtype).view(integer)) for x in (low, high))
        if self.form is not FLOAT32:
            return first, last, (last - first) // SAMPLES
        step = min(self.stride * (last - first) // PATTERNS, (last - first) // CHUNK)
        return first, last, step | 1  # odd, so that the lowest bits take all values

    def _starts(self, first: int, last: int, step: int) -> range:
        return range(first, last, step * self._length)

    def _stretch(self, low: float, high: float) -> Iterator[np.ndarray]:
        first, last, step = self._patterns(low, high)
        for start in self._starts(first, last, step):
            patterns = np.arange(start, min(start + step * self._length, last), step)
            values = patterns.astype(f"int{8 * self.form.dtype.itemsize}").view(self.form.dtype)
            yield np.resize(np.copysign(values, self.form.dtype.type(low)), self._length)  # the last one repeats itself


def sweeps(form: Format, function: str, stride: int) -> list[Sweep]:
    """The sweeps of a function, one of each kind it has."""
    kinds = [kind for kind in KINDS if function in TWO_OPERANDS or intervals(form, function, kind)]
    return [Sweep(form, function, kind, stride) for kind in kinds]


def intervals(form: Format, function: str, kind: str) -> list[tuple[float, float]]:
    """Where one operand runs: half-open, ends of one sign, the smaller magnitude first."""
    least, most = form.tiny, form.largest
    highest, lowest, vanishing = (float(np.log(x)) for x in (most, least, form.smallest))
    positive = [(least, most)]
    both_signs = [(2.0**-60, 32.0), (-(2.0**-60), -32.0)]
    all_intervals: dict[str, dict[str, list[tuple[float, float]]]] = {
        NORMAL: {
            "exp": [(2.0**-30, highest), (-(2.0**-30), lowest)],
            "log": [*positive, (0.5, 2.0), (1 - 2.0**-8, 1 + 2.0**-8)],
            "sigmoid": [(2.0**-30, -lowest), (-(2.0**-30), lowest)],
            "tanh": both_signs, "erf": both_signs, "sqrt": positive, "rsqrt": positive,
        },
        SUBNORMAL_RESULTS: {"exp": [(lowest, vanishing)], "sigmoid": [(lowest, vanishing)]},
        SUBNORMAL_OPERANDS: {name: [(form.smallest, least)] for name in ("log", "tanh", "erf", "sqrt", "rsqrt")},
    }  # fmt: skip
    return all_intervals[kind].get(function, [])


def pairs(rng: np.random.Generator, form: Format, function: str, kind: str, count: int) -> Operands:
    """Random operands of both signs; the second is near enough to the first for the sum to round."""

    def draw(low: np.ndarray | float, high: np.ndarray | float) -> np.ndarray:
        return np.exp2(rng.uniform(low, high, count)) * rng.choice([-1.0, 1.0], count)

    bottom = form.min_exponent
    if kind == NORMAL:
        x = draw(-30, 30)
        y = draw(np.log2(np.abs(x)) - form.precision - 1, np.log2(np.abs(x)) + form.precision + 1)
    elif function == "add":
        x = draw(bottom, bottom + 1)
        y = -np.copysign(draw(bottom, bottom + 1), x) if kind == SUBNORMAL_RESULTS else draw(bottom + 1, bottom + 3)
        x = x if kind == SUBNORMAL_RESULTS else x / 4
    else:
        subnormal, middle = draw(bottom - form.precision + 2, bottom), draw(bottom / 2 - 5, bottom / 2 + 5)
        other = draw(30, 60)
        if kind == SUBNORMAL_RESULTS:
            x, y = middle, subnormal / middle if function == "multiply" else middle / subnormal
        else:
            x, y = subnormal, other if function == "multiply" else 1 / other
    return x.astype(form.dtype), y.astype(form.dtype)
