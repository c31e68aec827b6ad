"""Running product of decays in log space, for products below the range of floating point.

Clauses     SCAN-6, STAB-3
Parallel    over rows, channels and, where that is not enough, time: _take_steps.py
Memory      reads and writes every number once
Precision   float32 for the narrow dtypes and float32, float64 for float64
"""

import math

import torch

from ._checks import check_arrays
from ._precision import arithmetic_dtype, below
from ._scan import Scan, Step


def _inflow(log_gamma: torch.Tensor, room: torch.Tensor) -> torch.Tensor:
    return torch.clamp(log_gamma, -50.0, 0.0, out=room)  # SCAN-6, STAB-3


def _write_gradients(out: list[torch.Tensor], before: torch.Tensor) -> None:
    """s, as it stands there."""


def _zero_outside(grad: torch.Tensor, log_gamma: torch.Tensor) -> None:
    """At the ends of the clamp there is a gradient. This function of PyTorch has none there: its ends lie just outside."""
    lowest, highest = below(-50.0, log_gamma.dtype), torch.finfo(log_gamma.dtype).tiny
    torch.ops.aten.hardtanh_backward(grad, log_gamma, lowest, highest, grad_input=grad)


_STEP = Step(None, _inflow, _write_gradients, _zero_outside)


def log_decay_product(log_gamma: torch.Tensor, initial: torch.Tensor) -> torch.Tensor:
    """Return s_t = initial + sum_{i <= t} clamp(log_gamma_i, -50, 0).

    A NaN gives NaN from its step on. The gradient is zero where the clamp binds; at exactly -50 and 0 it does not.

    Clauses  SCAN-6, STAB-3
    Args     log_gamma  [B, T, D]  logarithm of the decay per step, in [-inf, 0]
             initial    [B, D]     logarithm before step 0
    Returns  [B, T, D] in the dtype of the arguments
    Raises   TypeError, ValueError when an argument has the wrong dtype or shape; in checked mode, value
    """
    check_arrays({"log_gamma": (log_gamma, "BTD"), "initial": (initial, "BD")}, domains={"log_gamma": (-math.inf, 0.0)})
    return Scan.apply(_STEP, initial.to(arithmetic_dtype(log_gamma.dtype)), log_gamma)
