"""Running product of decays, exactly zero from the first decay of zero on.

Clauses     STAB-8, SCAN-2, STAB-9
Parallel    over rows, channels and, where that is not enough, time: _take_steps.py
Memory      reads and writes every number once
Precision   float32 for the narrow dtypes and float32, float64 for float64
"""

import torch

from ._checks import check_arrays
from ._precision import arithmetic_dtype, no_negatives
from ._scan import Scan, Step


def _write_gradients(out: list[torch.Tensor], before: torch.Tensor) -> None:
    out[0].mul_(before)


_STEP = Step(no_negatives, None, _write_gradients)  # STAB-8


def decay_product_exact(gamma: torch.Tensor, initial: torch.Tensor) -> torch.Tensor:
    """Return y_t = initial * prod_{i <= t} gamma_i.

    A negative or NaN decay gives NaN from its step on. At a decay of zero the gradient is the product of all the
    other factors.

    Clauses  STAB-8, SCAN-2, STAB-9
    Args     gamma    [B, T, D]  decay per step, in [0, 1]
             initial  [B, D]     value before step 0
    Returns  [B, T, D] in the dtype of the arguments
    Raises   TypeError, ValueError when an argument has the wrong dtype or shape; in checked mode, value
    """
    check_arrays({"gamma": (gamma, "BTD"), "initial": (initial, "BD")}, domains={"gamma": (0.0, 1.0)})
    return Scan.apply(_STEP, initial.to(arithmetic_dtype(gamma.dtype)), gamma)
