"""From an enclosure to a verdict on numbers: the share of its error budget that an output uses.

``budget = distance(output, exact) / tolerance``, element by element; above 1 the output is out of bound. For a
storage format narrower than the arithmetic the distance is measured to the *preimage* of the output under
rounding: rounding is monotone, so the legal outputs are exactly the roundings of legal arithmetic results, and
no half ulp needs to be added to the tolerance.
"""

from dataclasses import dataclass

import numpy as np

from mmrec.numerics.formats import Format

REFERENCE_SLACK = 2.0**-28  # the float64 reference obeys the same bound with u = 2^-53: 2^-29 of a float32 tolerance
REFERENCE_FLOOR = 2.0**-50  # its last bits, where the tolerance itself is zero


@dataclass(frozen=True)
class Enclosure:
    """NUM-2: the exact value (as the reference has it) and how far, element by element, an implementation may be off."""

    value: np.ndarray
    tolerance: np.ndarray


def budget(output: np.ndarray, enclosure: Enclosure, storage: Format, arithmetic: Format) -> np.ndarray:
    """The share of its tolerance each element of ``output`` uses; infinite where no tolerance could excuse it.

    NUM-2    abs(output - exact) / tolerance, element by element; at most 1 conforms
    NUM-3    storage narrower than the arithmetic: the distance is the one to what rounds to the output
    NUM-4    NaN is excused by NaN only, infinity by the same infinity or by a tolerance that reaches overflow
    NUM-7    a tolerance of 0 demands the exact value
    """
    output = np.asarray(output, np.float64)
    value = np.asarray(enclosure.value, np.float64)
    with np.errstate(over="ignore"):
        tolerance = enclosure.tolerance * (1 + REFERENCE_SLACK)
    exactly = enclosure.tolerance == 0
    if arithmetic.precision < 53:  # float64 kernels are judged by tolerances that contain the reference's own error
        tolerance = tolerance + np.abs(value) * REFERENCE_FLOOR
    with np.errstate(all="ignore"):
        distance = np.abs(output - value)
        if storage.precision < arithmetic.precision:
            distance = distance_to_preimage(output, value, storage)
            tie = exactly & (distance == 0) & (output != storage.round(value))  # halfway: nearest even only
            distance = np.where(tie, np.inf, distance)
        used = np.where(distance == 0, 0.0, distance / tolerance)
        same_class = (np.isnan(output) & np.isnan(value)) | (output == value)
        overflow = np.isinf(output) & (np.sign(output) * value + tolerance >= overflow_from(storage))
    used = np.where(np.isfinite(output), used, np.where(same_class | overflow, 0.0, np.inf))
    return np.where(np.isnan(used), np.inf, used)


def overflow_from(storage: Format) -> float:
    """NUM-4: the smallest number that rounds to infinity, half a gap above the largest."""
    return storage.largest + float(storage.spacing(np.asarray(storage.largest))) / 2


def distance_to_preimage(output: np.ndarray, value: np.ndarray, storage: Format) -> np.ndarray:
    """NUM-3: how far ``value`` is from the interval of numbers that round to ``output`` in the storage format."""
    gap = storage.spacing(output)
    mantissa, _ = np.frexp(np.abs(output))
    at_power_of_two = (mantissa == 0.5) & (np.abs(output) > storage.tiny)
    outward = np.abs(output) + gap / 2
    inward = np.abs(output) - np.where(at_power_of_two, gap / 4, gap / 2)
    along = np.where(output < 0, -1.0, 1.0) * value
    around_zero = np.maximum(np.abs(value) - gap / 2, 0.0)
    return np.where(output == 0, around_zero, np.maximum(np.maximum(inward - along, along - outward), 0.0))
