"""The two oracles behind float64: mpmath with many digits, and Arb balls that are proofs.

``evaluate_mpmath`` is the readable one; ``evaluate_balls`` doubles its precision until every ball is tight, so
its result is a rigorous enclosure of the exact value of the reference's formula for these very inputs.
"""

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
from flint import arb, ctx

DIGITS = 50
START_BITS = 113
MOST_BITS = 8192


def evaluate_mpmath(function: Callable, arrays: list[np.ndarray], **options: Any) -> Any:
    """function(*arrays) with 50 digits; arrays of mpf come back."""
    with mpmath.workdps(DIGITS):
        return function(*(_objects(mpmath.mpf, array) for array in arrays), **options)


def evaluate_balls(function: Callable, arrays: list[np.ndarray], tight: float = 2.0**-52, **options: Any) -> Any:
    """Rigorous enclosures of function(*arrays): (midpoints, radii) as float64, per result.

    The precision doubles until every radius is below ``tight`` times its midpoint (or 2^-1000). Raises
    ArithmeticError when ``MOST_BITS`` bits do not suffice, which means the formula is chaotic there.
    """
    bits, before = START_BITS, ctx.prec
    try:
        while bits <= MOST_BITS:
            ctx.prec = bits
            results = function(*(_objects(arb, array) for array in arrays), **options)
            several = isinstance(results, tuple)
            enclosures = [_enclosure(result) for result in (results if several else (results,))]
            if all(np.all(radius <= tight * np.abs(middle) + 2.0**-1000) for middle, radius in enclosures):
                return enclosures if several else enclosures[0]
            bits *= 2
    finally:
        ctx.prec = before
    raise ArithmeticError(f"no tight enclosure with {MOST_BITS} bits: the formula does not determine its value")


def _objects(kind: Callable, array: np.ndarray) -> np.ndarray:
    numbers = np.empty(np.shape(array), object)
    for index, x in np.ndenumerate(np.asarray(array, np.float64)):
        numbers[index] = kind(float(x))
    return numbers


def _enclosure(balls: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    middle, radius = np.empty(balls.shape), np.empty(balls.shape)
    for index, ball in np.ndenumerate(balls):
        middle[index] = float(ball.mid())
        # the midpoint's own rounding to float64 belongs to the radius
        apart = float((ball - arb(float(middle[index]))).abs_upper())
        radius[index] = np.nextafter(apart, np.inf) if apart else 0.0
    return middle, radius
