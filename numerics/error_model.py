"""Every assumption about the arithmetic of a machine, in one frozen object that the report prints.

An operation of the arithmetic format returns its exact result times (1 + d), |d| <= u, plus at most ``eta``
where it underflows. Elementary functions are allowed the errors below, in units of u of the arithmetic format
(k ulp is at most 2 k u). `mmrec calibrate` measures them on the machine at hand.
"""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from scipy.special import expit

from mmrec.numerics.formats import FLOAT32, FLOAT64, Format, arithmetic_of


@dataclass(frozen=True)
class ErrorModel:
    """NUM-1: what an admissible implementation may do, and no more."""

    arithmetic: Format = FLOAT32
    flush_to_zero: bool = True  # subnormal results may become 0, and subnormal operands may be read as 0
    exp: float = 4.0  # relative error of exp(x) is at most (exp + exp_slope |x|) u:
    exp_slope: float = 1.25  # 2 ulp, and exp2(x log2 e) rounds the product: 1.22 |x| u
    log: float = 8.0  # 4 ulp
    sigmoid: float = 8.0  # 4 ulp, or what 1 / (1 + exp(-x)) makes of the errors of exp and division
    tanh: float = 12.0  # 6 ulp
    erf: float = 16.0  # 8 ulp
    divide: float = 4.0  # 2 ulp: approximate division
    sqrt: float = 4.0  # 2 ulp
    rsqrt: float = 4.0  # 2 ulp
    multiply: float = 1.0  # correctly rounded
    add: float = 1.0  # correctly rounded
    sources: dict[str, str] = field(
        default_factory=lambda: {
            "exp": "vendor table 2 + floor(1.16 |x|) ulp; 64 u measured at |x| = 64 on an H200, 4 + 1.15 |x| u covers it",
            "log": "1.4 u measured on an H200, 4.6 u in NumPy's float32 on x86",
            "sigmoid": "64 u at x = -80 and 3 u for x > 0 measured on an H200: the form 1 / (1 + exp(-x))",
            "tanh": "3.3 u measured on an H200; vendor documents 5.5 ulp for one compiler",
            "erf": "vendor table 2 ulp; compilers' polynomial forms up to 8 ulp",
            "rsqrt": "2.1 u measured on an H200",
            "sqrt": "1.7 u measured on an H200; 1.5 u in torch on x86",
            "divide": "vendor document: 2 ulp for the approximate division that compilers choose",
            "multiply": "IEEE 754",
            "add": "IEEE 754",
            "flush_to_zero": "one CPU compiler and fast modes of GPUs flush results and read subnormal operands as 0",
            "exp_slope": "x log2(e) is rounded once, and log2(e) itself: 1.22 |x| u",
        },
        compare=False,
    )

    @property
    def u(self) -> float:
        return self.arithmetic.unit

    @property
    def eta(self) -> float:
        """The largest error of one operation that underflows."""
        return self.arithmetic.tiny if self.flush_to_zero else self.arithmetic.smallest / 2

    def gamma(self, n: Any) -> Any:
        """gamma_n = n u / (1 - n u): n roundings in any order (Higham 2002, lemma 3.1)."""
        n = np.maximum(np.asarray(n, np.float64), 0.0)
        return n * self.u / (1 - n * self.u)

    def allowed(self, function: str, x: Any) -> np.ndarray:
        """The relative error, in units of u, that ``function`` may have at x, its first operand; underflow apart.

        ``function`` is the name of a field: exp, log, sigmoid, tanh, erf, sqrt, rsqrt, divide, multiply or add.
        """
        x = np.asarray(x, np.float64)
        if function == "exp":
            return self.exp + self.exp_slope * np.abs(x)
        units = np.full(x.shape, getattr(self, function))
        if function == "sigmoid":  # directly, or as 1 / (1 + exp(-x)): exp's error weighs 1 - sigmoid
            units = np.maximum(units, expit(-x) * self.allowed("exp", x) + self.add + self.divide)
        return units

    def describe(self) -> dict[str, Any]:
        """The assumptions as plain values, for the result file."""
        return {**asdict(replace(self)), "arithmetic": self.arithmetic.name}


def rounds_nothing(factor: np.ndarray) -> np.ndarray:
    """NUM-7, products: where multiplication by this factor is exact, 0 and the powers of two (underflow apart)."""
    mantissa, _ = np.frexp(np.abs(factor))
    return (mantissa == 0.5) | (factor == 0)


def model_for(storage: Format) -> ErrorModel:
    """The error model of an op whose arrays are stored in that format (CONV-3)."""
    return ErrorModel(arithmetic=arithmetic_of(storage))


def without_rounding() -> ErrorModel:
    """Real arithmetic: running-error numbers then carry their operands' errors and add none of their own."""
    return ErrorModel(arithmetic=Format("real", 10**5, -(10**5), 1023, np.dtype(np.float64)))


def reference_model() -> ErrorModel:
    """The error model of the float64 reference itself: its own rounding is bounded by the same formulas."""
    return ErrorModel(arithmetic=FLOAT64)
