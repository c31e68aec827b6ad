"""Running-error numbers: a value, and how far any admissible evaluation of it may be off.

``RunningError(value, error)`` stands for every number an admissible implementation may hold where the exact
one is ``value``. Each operation carries the operands' errors through (exactly, products of errors kept) and
adds its own rounding from the error model. Running a reference function on these numbers gives the value and
its tolerance from one text. Sums and products of matrices allow every order of summation.

The bounds themselves are computed in float64 and enlarged by ``SLACK`` for its rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import erf as erf_of
from scipy.special import expit

from mmrec.numerics.error_model import ErrorModel, rounds_nothing

SLACK = 1 + 2.0**-40
UNKNOWN = 1e30  # the error of a number of which nothing is known; finite, so that 0 times it is 0


class RunningError:
    """An array of values with a bound on the error of each admissible evaluation (NUM-1)."""

    __array_priority__ = 1000  # NumPy arrays on the left defer to us
    __array_ufunc__ = None

    def __init__(self, value: Any, error: Any, model: ErrorModel):
        self.value = np.asarray(value, np.float64)
        error = np.asarray(error, np.float64)
        self.error = error if error.shape == self.value.shape else np.broadcast_to(error, self.value.shape)
        self.model = model

    # ---- making numbers -----------------------------------------------------------------
    def _number(self, other: Any) -> RunningError:
        return other if isinstance(other, RunningError) else RunningError(other, 0.0, self.model)

    def constant(self, decimal: str) -> RunningError:
        """A written constant; unless it is representable, storing it costs one rounding."""
        value = float(decimal)
        exact = self.model.arithmetic.round(np.asarray(value)) == value
        return RunningError(value, 0.0 if exact else self.model.u * abs(value), self.model)

    def _rounded(self, value: np.ndarray, error: np.ndarray, units: Any) -> RunningError:
        """A result with propagated error, after an operation that itself errs by ``units`` u or underflows."""
        size = np.abs(value) + error
        may_underflow = (size > 0) & (np.abs(value) - error < 2 * self.model.arithmetic.tiny)
        fresh = units * self.model.u * size + np.where(may_underflow, self.model.eta, 0.0)
        return RunningError(value, (error + fresh) * SLACK, self.model)

    # ---- arithmetic ---------------------------------------------------------------------
    def __neg__(self) -> RunningError:
        return RunningError(-self.value, self.error, self.model)

    def __add__(self, other: Any) -> RunningError:
        other = self._number(other)
        nothing_added = ((self.value == 0) & (self.error == 0)) | ((other.value == 0) & (other.error == 0))
        units = np.where(nothing_added, 0.0, self.model.add)
        return self._rounded(self.value + other.value, self.error + other.error, units)

    __radd__ = __add__

    def __sub__(self, other: Any) -> RunningError:
        return self + (-self._number(other))

    def __rsub__(self, other: Any) -> RunningError:
        return self._number(other) + (-self)

    def __mul__(self, other: Any) -> RunningError:
        other = self._number(other)
        value = self.value * other.value
        error = np.abs(self.value) * other.error + np.abs(other.value) * self.error + self.error * other.error
        if self.model.flush_to_zero:  # an operand that is subnormal may be read as 0
            tiny = self.model.arithmetic.tiny
            error = error + np.where((np.abs(self.value) < tiny) | (np.abs(other.value) < tiny), np.abs(value), 0.0)
        exact = _exact_factor(other) | _exact_factor(self)
        return self._rounded(value, error, np.where(exact, 0.0, self.model.multiply))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> RunningError:
        other = self._number(other)
        least = np.abs(other.value) - other.error
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            quotient = np.where(least > 0, self.value / other.value, 0.0)
            error = np.where(least > 0, (self.error + np.abs(quotient) * other.error) / least, UNKNOWN)
        return self._rounded(quotient, error, np.where(_exact_factor(other), 0.0, self.model.divide))

    def __rtruediv__(self, other: Any) -> RunningError:
        return self._number(other) / self

    def sum(self, axis: int, keepdims: bool = False) -> RunningError:
        """The sum in any order of its n terms: n - 1 roundings on the way of each term."""
        terms = self.value.shape[axis]
        value = self.value.sum(axis=axis, keepdims=keepdims)
        error = self.error.sum(axis=axis, keepdims=keepdims)
        majorant = np.abs(self.value).sum(axis=axis, keepdims=keepdims) + error
        underflow = np.where(majorant > 0, (terms - 1) * self.model.eta, 0.0)
        return RunningError(value, (error + self.model.gamma(terms - 1) * majorant + underflow) * SLACK, self.model)

    def __matmul__(self, other: Any) -> RunningError:
        """Matrix product, summed in any order, with or without fused multiply-add."""
        other = self._number(other)
        terms = self.value.shape[-1]
        mine, theirs = np.abs(self.value), np.abs(other.value)
        error = mine @ other.error + self.error @ theirs + self.error @ other.error
        majorant = mine @ theirs + error
        largest = max(1.0, np.max(mine, initial=0.0), np.max(theirs, initial=0.0))  # times a subnormal read as 0
        underflow = np.where(majorant > 0, terms * self.model.eta * largest, 0.0)
        return RunningError(
            self.value @ other.value, (error + self.model.gamma(terms) * majorant + underflow) * SLACK, self.model
        )

    def affine(self, matrix: Any, *offsets: Any) -> RunningError:
        """matrix @ self + offsets, all terms added in any order."""
        result = self @ self._number(matrix).T
        majorant = np.abs(self.value) @ np.abs(self._number(matrix).value).T
        error, value = result.error, result.value
        for offset in map(self._number, offsets):
            value, error = value + offset.value, error + offset.error
            majorant = majorant + np.abs(offset.value) + offset.error
        terms = self.value.shape[-1] + len(offsets)
        return RunningError(value, (error + self.model.gamma(terms) * majorant + len(offsets) * self.model.eta) * SLACK,
                            self.model)  # fmt: skip

    def __rmatmul__(self, other: Any) -> RunningError:
        return self._number(other) @ self

    # ---- elementary functions -----------------------------------------------------------
    def exp(self) -> RunningError:
        value = np.exp(self.value)
        units = self.model.exp + self.model.exp_slope * (np.abs(self.value) + self.error)
        return self._rounded(value, value * np.expm1(self.error), units)

    def log(self) -> RunningError:
        value = np.log(self.value)
        with np.errstate(divide="ignore", invalid="ignore"):
            error = np.where(self.error < self.value, -np.log1p(-self.error / self.value), UNKNOWN)
        return self._rounded(value, error, self.model.log)

    def sigmoid(self) -> RunningError:
        """Directly within ``model.sigmoid``, or as 1 / (1 + exp(-x)): exp's error weighs (1 - sigmoid)."""
        value = expit(self.value)
        slope = value * (1 - value)
        error = np.minimum(self.error * np.minimum(0.25, slope * np.exp(np.minimum(self.error, 50.0))), 1.0)
        through_exp = (1 - value) * (self.model.exp + self.model.exp_slope * np.abs(self.value))
        units = np.maximum(self.model.sigmoid, through_exp + self.model.add + self.model.divide)
        return self._rounded(value, error, units)

    def tanh(self) -> RunningError:
        return self._rounded(np.tanh(self.value), np.minimum(self.error, 2.0), self.model.tanh)

    def erf(self) -> RunningError:
        return self._rounded(erf_of(self.value), np.minimum(self.error * (2 / np.sqrt(np.pi)), 2.0), self.model.erf)

    def sqrt(self) -> RunningError:
        value = np.sqrt(self.value)
        low, high = np.sqrt(np.maximum(self.value - self.error, 0.0)), np.sqrt(self.value + self.error)
        return self._rounded(value, np.maximum(value - low, high - value), self.model.sqrt)

    def rsqrt(self) -> RunningError:
        value, least = self.value**-0.5, self.value - self.error
        with np.errstate(divide="ignore", invalid="ignore"):
            error = np.where(least > 0, least**-0.5 - value, UNKNOWN)
        return self._rounded(value, error, self.model.rsqrt)

    # ---- choices ------------------------------------------------------------------------
    def maximum(self, bound: Any) -> RunningError:
        """The larger of self and a bound; the chosen one's error, both where either may be chosen."""
        bound = self._number(bound)
        certain = np.abs(self.value - bound.value) > self.error + bound.error
        chosen = np.where(self.value >= bound.value, self.error, bound.error)
        return RunningError(
            np.maximum(self.value, bound.value),
            np.where(certain, chosen, np.maximum(self.error, bound.error)),
            self.model,
        )

    def between(self, low: Any, high: Any) -> RunningError:
        """1 where low <= self <= high, 0 elsewhere, and uncertain (error 1) where the errors do not decide."""
        low, high = self._number(low), self._number(high)
        undecided = (np.abs(self.value - low.value) <= self.error + low.error) & (self.error + low.error > 0)
        undecided |= (np.abs(self.value - high.value) <= self.error + high.error) & (self.error + high.error > 0)
        inside = (self.value >= low.value) & (self.value <= high.value)
        return RunningError(inside.astype(float), undecided.astype(float), self.model)

    def where(self, condition: Any, otherwise: Any) -> RunningError:
        """self where the condition holds; where it is undecided, an error that reaches both choices."""
        condition, otherwise = self._number(condition), self._number(otherwise)
        holds = condition.value != 0
        value = np.where(holds, self.value, otherwise.value)
        apart = np.abs(self.value - otherwise.value) + np.maximum(self.error, otherwise.error)
        error = np.where(condition.error > 0, apart, np.where(holds, self.error, otherwise.error))
        return RunningError(value, error, self.model)

    def _compare(self, other: Any, relation: Any) -> np.ndarray:
        return relation(self.value, self._number(other).value)

    def __gt__(self, other: Any) -> np.ndarray:
        return self._compare(other, np.greater)

    def __ge__(self, other: Any) -> np.ndarray:
        return self._compare(other, np.greater_equal)

    def __le__(self, other: Any) -> np.ndarray:
        return self._compare(other, np.less_equal)

    # ---- shape --------------------------------------------------------------------------
    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def T(self) -> RunningError:
        return RunningError(self.value.T, self.error.T, self.model)

    def reshape(self, *shape: int) -> RunningError:
        return RunningError(self.value.reshape(*shape), self.error.reshape(*shape), self.model)

    def __getitem__(self, index: Any) -> RunningError:
        return RunningError(self.value[index], self.error[index], self.model)

    def stack(self, steps: Sequence[RunningError], axis: int) -> RunningError:
        return RunningError(
            np.stack([step.value for step in steps], axis), np.stack([step.error for step in steps], axis), self.model
        )


def _exact_factor(number: RunningError) -> np.ndarray:
    """Where multiplying by this number rounds nothing: it is known exactly, and a power of two or 0."""
    return rounds_nothing(number.value) & (number.error == 0)
