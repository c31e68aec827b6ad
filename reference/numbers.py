"""Elementary functions that ask the number what it is, so that one formula runs in every number system.

A number system is either

* a NumPy array of float64 (the value, fast),
* a NumPy array of objects: mpmath ``mpf`` (many digits) or python-flint ``arb`` (rigorous balls), or
* an array class of its own with methods of these names (running-error numbers, dual numbers).

``exp(x)`` calls the method ``x.exp()`` where there is one, works element by element on object arrays, and
uses NumPy otherwise. Nothing else about the number system is known to the formulas.
"""

from collections.abc import Callable, Sequence
from typing import Any

import mpmath
import numpy as np
import scipy.special

Numbers = Any  # an array in some number system; its shape is in each docstring


def _elementary(name: str, of_float: Callable, of_mpf: Callable) -> Callable[[Numbers], Numbers]:
    def function(x: Numbers) -> Numbers:
        if isinstance(x, np.ndarray) and x.dtype == object:
            return np.frompyfunc(function, 1, 1)(x)
        if isinstance(x, mpmath.mpf):
            return of_mpf(x)
        if hasattr(x, name):  # arb, and the array classes of mmrec.numerics
            return getattr(x, name)()
        return of_float(x)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{name} of every element, in the number system of x."
    return function


exp = _elementary("exp", np.exp, mpmath.exp)
log = _elementary("log", np.log, mpmath.log)
sqrt = _elementary("sqrt", np.sqrt, mpmath.sqrt)
rsqrt = _elementary("rsqrt", lambda x: 1 / np.sqrt(x), lambda x: 1 / mpmath.sqrt(x))
tanh = _elementary("tanh", np.tanh, mpmath.tanh)
erf = _elementary("erf", scipy.special.erf, mpmath.erf)


def sigmoid(x: Numbers) -> Numbers:
    """1 / (1 + exp(-x)) of every element."""
    if hasattr(x, "sigmoid"):
        return x.sigmoid()
    if isinstance(x, np.ndarray) and x.dtype != object:
        return scipy.special.expit(x)  # the same value, and no overflow warning at x = -1000
    return 1 / (1 + exp(-x))


def constant(decimal: str, like: Numbers) -> Numbers:
    """The number written in ``decimal``, in the number system of ``like``, as exactly as that system can."""
    if hasattr(like, "constant"):
        return like.constant(decimal)
    if isinstance(like, np.ndarray) and like.dtype == object:
        kind = type(like.flat[0]) if like.size else mpmath.mpf
        return kind(decimal)
    return float(decimal)


def pi(like: Numbers) -> Numbers:
    """The circle constant in the number system of ``like``."""
    if isinstance(like, np.ndarray) and like.dtype == object and like.size:
        kind = type(like.flat[0])
        return kind.pi() if hasattr(kind, "pi") else +mpmath.pi
    return constant(repr(np.pi), like)


def maximum(x: Numbers, bound: Numbers) -> Numbers:
    """The larger of x and a constant bound, element by element; NaN stays NaN."""
    if hasattr(x, "maximum"):
        return x.maximum(bound)
    if isinstance(x, np.ndarray) and x.dtype == object:
        return np.frompyfunc(lambda e: e.max(bound) if hasattr(e, "max") else max(e, bound), 1, 1)(x)
    return np.maximum(x, bound)


def minimum(x: Numbers, bound: Numbers) -> Numbers:
    """The smaller of x and a constant bound, element by element; NaN stays NaN."""
    return -maximum(-x, -bound)


def clip(x: Numbers, low: Numbers, high: Numbers) -> Numbers:
    """x limited to [low, high]."""
    return minimum(maximum(x, low), high)


def where(condition: Any, x: Numbers, otherwise: Numbers) -> Numbers:
    """x where the condition holds, ``otherwise`` elsewhere."""
    if hasattr(x, "where"):
        return x.where(condition, otherwise)
    return np.where(condition, x, otherwise)


def between(x: Numbers, low: Numbers, high: Numbers) -> Any:
    """Where low <= x <= high: the derivative of ``clip`` as a condition for ``where``."""
    if hasattr(x, "between"):
        return x.between(low, high)
    return (x >= low) & (x <= high)


def matvec(matrix: Numbers, vectors: Numbers) -> Numbers:
    """W @ h for every row h of ``vectors`` [B, D_in], W [D_out, D_in] -> [B, D_out]."""
    return vectors @ matrix.T


def affine(matrix: Numbers, vectors: Numbers, *offsets: Numbers) -> Numbers:
    """W @ h plus offsets for every row h: [..., D_in] -> [..., D_out]. No order of the additions is meant."""
    if hasattr(vectors, "affine"):
        return vectors.affine(matrix, *offsets)
    result = matvec(matrix, vectors)
    for offset in offsets:
        result = result + offset
    return result


def mean(x: Numbers) -> Numbers:
    """The mean over the last axis, which is kept with length 1."""
    return x.sum(axis=-1, keepdims=True) / x.shape[-1]


def total(x: Numbers) -> Numbers:
    """The sum over every axis but the last: what a parameter shared by all rows and steps receives."""
    return x.reshape(-1, x.shape[-1]).sum(axis=0)


def outer_total(x: Numbers, y: Numbers) -> Numbers:
    """sum of x y^T over all rows and steps: x [B,T,M], y [B,T,N] -> [M, N]."""
    return x.reshape(-1, x.shape[-1]).T @ y.reshape(-1, y.shape[-1])


def zeros_like(x: Numbers) -> Numbers:
    """Exact zeros of x's shape and number system."""
    return x * 0


def stack(steps: Sequence[Numbers], like: Numbers) -> Numbers:
    """Join T arrays [B, D] along a new time axis -> [B, T, D]; the empty ``like`` [B, 0, D] when T = 0."""
    if not steps:
        return like
    if hasattr(steps[0], "stack"):
        return steps[0].stack(steps, axis=1)
    return np.stack(steps, axis=1)


def shifted(first: Numbers, steps: Numbers) -> Numbers:
    """The state before each step: ``first`` [B, D], then ``steps`` [B, T, D] without its last one."""
    return stack([first, *(steps[:, t] for t in range(steps.shape[1] - 1))][: steps.shape[1]], like=steps)
