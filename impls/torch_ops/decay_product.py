"""Running product of decays, each kept from falling below e^-50.

Clauses     SCAN-2, STAB-3, STAB-9
Parallel    over rows, channels and, where that is not enough, time: _take_steps.py
Memory      reads and writes every number once
Precision   float32 for the narrow dtypes and float32, float64 for float64
"""

import math

import torch

from ._checks import check_arrays
from ._precision import arithmetic_dtype, at_least, below, no_negatives
from ._scan import Scan, Step

FLOOR = math.exp(-50.0)


def _factor(gamma: torch.Tensor) -> torch.Tensor:
    if at_least(FLOOR, gamma):
        return gamma
    return torch.nn.functional.threshold(no_negatives(gamma), below(FLOOR, gamma.dtype), FLOOR)  # SCAN-2, STAB-3


def _write_gradients(out: list[torch.Tensor], before: torch.Tensor) -> None:
    out[0].mul_(before)


def _zero_outside(grad: torch.Tensor, gamma: torch.Tensor) -> None:
    torch.ops.aten.threshold_backward(grad, gamma, below(FLOOR, gamma.dtype), grad_input=grad)


_STEP = Step(_factor, None, _write_gradients, _zero_outside)


def decay_product(gamma: torch.Tensor, initial: torch.Tensor) -> torch.Tensor:
    """Return y_t = initial * prod_{i <= t} max(gamma_i, e^-50).

    A negative or NaN decay gives NaN from its step on. The gradient is zero where the floor binds.

    Clauses  SCAN-2, STAB-3, STAB-9
    Args     gamma    [B, T, D]  decay per step, in [0, 1]
             initial  [B, D]     value before step 0
    Returns  [B, T, D] in the dtype of the arguments
    Raises   TypeError, ValueError when an argument has the wrong dtype or shape; in checked mode, value
    """
    check_arrays({"gamma": (gamma, "BTD"), "initial": (initial, "BD")}, domains={"gamma": (0.0, 1.0)})
    return Scan.apply(_STEP, initial.to(arithmetic_dtype(gamma.dtype)), gamma)
