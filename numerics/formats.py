"""Storage formats: what a dtype can represent, and rounding to it (spec clauses CONV-2, CONV-4)."""

from dataclasses import dataclass

import ml_dtypes
import numpy as np


@dataclass(frozen=True)
class Format:
    """A binary floating-point format with gradual underflow."""

    name: str
    precision: int  # significant bits, the hidden one included
    min_exponent: int  # of the smallest normal number, 2**min_exponent
    max_exponent: int
    dtype: np.dtype

    @property
    def unit(self) -> float:
        """u: the largest relative error of one rounding to nearest."""
        return 2.0**-self.precision

    @property
    def tiny(self) -> float:
        """The smallest normal number."""
        return 2.0**self.min_exponent

    @property
    def smallest(self) -> float:
        """The smallest subnormal number."""
        return 2.0 ** (self.min_exponent - self.precision + 1)

    @property
    def largest(self) -> float:
        return (2 - 2.0 ** (1 - self.precision)) * 2.0**self.max_exponent

    def round(self, x: np.ndarray | float) -> np.ndarray:
        """x rounded to nearest even in this format, as float64; overflow gives infinity."""
        x = np.asarray(x, np.float64)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            if self.precision != 8:
                return x.astype(self.dtype).astype(np.float64)
            gap = self.spacing(x)  # bfloat16: a cast would go through float32 and round twice
            rounded = np.where(np.isfinite(x), np.rint(x / gap) * gap, x)
            return np.where(np.abs(rounded) > self.largest, np.copysign(np.inf, x), rounded)

    def spacing(self, x: np.ndarray) -> np.ndarray:
        """The gap between neighbours at x (of the binade that contains |x|); the subnormal gap at 0."""
        _, exponent = np.frexp(x)
        exponent = np.where(x == 0, self.min_exponent, exponent)  # frexp(0) answers 0, which would be the gap at 1
        return np.ldexp(1.0, np.maximum(exponent - self.precision, self.min_exponent - self.precision + 1))


FLOAT64 = Format("float64", 53, -1022, 1023, np.dtype(np.float64))
FLOAT32 = Format("float32", 24, -126, 127, np.dtype(np.float32))
BFLOAT16 = Format("bfloat16", 8, -126, 127, np.dtype(ml_dtypes.bfloat16))
FLOAT16 = Format("float16", 11, -14, 15, np.dtype(np.float16))

FORMATS = {format.name: format for format in (FLOAT64, FLOAT32, BFLOAT16, FLOAT16)}


def arithmetic_of(storage: Format) -> Format:
    """The format in which CONV-3 wants sums, states and gates: float32, or float64 for float64."""
    return FLOAT64 if storage is FLOAT64 else FLOAT32
