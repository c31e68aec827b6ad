"""Dual numbers: a value and its derivative in one direction, carried through the reference's own text.

They check the hand-written adjoints (GRAD-4): for every direction v, <adjoint(g), v> must equal <g, derivative>.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import erf as erf_of
from scipy.special import expit


class Dual:
    """value + derivative * epsilon with epsilon^2 = 0, element by element, in float64 (GRAD-4)."""

    __array_ufunc__ = None

    def __init__(self, value: Any, derivative: Any = 0.0):
        self.value = np.asarray(value, np.float64)
        self.derivative = np.broadcast_to(np.asarray(derivative, np.float64), self.value.shape)

    def _number(self, other: Any) -> Dual:
        return other if isinstance(other, Dual) else Dual(other)

    def constant(self, decimal: str) -> Dual:
        return Dual(float(decimal))

    # ---- arithmetic: sum, product and quotient rule ---------------------------------------
    def __neg__(self) -> Dual:
        return Dual(-self.value, -self.derivative)

    def __add__(self, other: Any) -> Dual:
        other = self._number(other)
        return Dual(self.value + other.value, self.derivative + other.derivative)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Dual:
        return self + (-self._number(other))

    def __rsub__(self, other: Any) -> Dual:
        return self._number(other) + (-self)

    def __mul__(self, other: Any) -> Dual:
        other = self._number(other)
        return Dual(self.value * other.value, self.derivative * other.value + self.value * other.derivative)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Dual:
        other = self._number(other)
        quotient = self.value / other.value
        return Dual(quotient, (self.derivative - quotient * other.derivative) / other.value)

    def __rtruediv__(self, other: Any) -> Dual:
        return self._number(other) / self

    def __matmul__(self, other: Any) -> Dual:
        other = self._number(other)
        return Dual(self.value @ other.value, self.derivative @ other.value + self.value @ other.derivative)

    def __rmatmul__(self, other: Any) -> Dual:
        return self._number(other) @ self

    def sum(self, axis: int, keepdims: bool = False) -> Dual:
        return Dual(self.value.sum(axis=axis, keepdims=keepdims), self.derivative.sum(axis=axis, keepdims=keepdims))

    # ---- elementary functions: chain rule ---------------------------------------------------
    def _chain(self, value: np.ndarray, slope: np.ndarray) -> Dual:
        return Dual(value, slope * self.derivative)

    def exp(self) -> Dual:
        return self._chain(np.exp(self.value), np.exp(self.value))

    def log(self) -> Dual:
        return self._chain(np.log(self.value), 1 / self.value)

    def sqrt(self) -> Dual:
        return self._chain(np.sqrt(self.value), 0.5 / np.sqrt(self.value))

    def rsqrt(self) -> Dual:
        return self._chain(self.value**-0.5, -0.5 * self.value**-1.5)

    def sigmoid(self) -> Dual:
        value = expit(self.value)
        return self._chain(value, value * (1 - value))

    def tanh(self) -> Dual:
        return self._chain(np.tanh(self.value), 1 - np.tanh(self.value) ** 2)

    def erf(self) -> Dual:
        return self._chain(erf_of(self.value), 2 / np.sqrt(np.pi) * np.exp(-(self.value**2)))

    # ---- choices: the derivative of the branch taken ---------------------------------------
    def maximum(self, bound: Any) -> Dual:
        return self.where(self >= bound, self._number(bound))

    def where(self, condition: Any, otherwise: Any) -> Dual:
        otherwise = self._number(otherwise)
        return Dual(
            np.where(condition, self.value, otherwise.value), np.where(condition, self.derivative, otherwise.derivative)
        )

    def __gt__(self, other: Any) -> np.ndarray:
        return self.value > self._number(other).value

    def __ge__(self, other: Any) -> np.ndarray:
        return self.value >= self._number(other).value

    def __le__(self, other: Any) -> np.ndarray:
        return self.value <= self._number(other).value

    # ---- shape --------------------------------------------------------------------------
    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def T(self) -> Dual:
        return Dual(self.value.T, self.derivative.T)

    def reshape(self, *shape: int) -> Dual:
        return Dual(self.value.reshape(*shape), self.derivative.reshape(*shape))

    def __getitem__(self, index: Any) -> Dual:
        return Dual(self.value[index], self.derivative[index])

    def stack(self, steps: Sequence[Dual], axis: int) -> Dual:
        return Dual(np.stack([s.value for s in steps], axis), np.stack([s.derivative for s in steps], axis))
