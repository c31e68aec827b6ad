"""Linear recurrence: a state that decays and takes in.

Clauses     MDI-1
Parallel    over rows, channels and, where that is not enough, time: _take_steps.py
Memory      reads and writes every number once
Precision   float32 for the narrow dtypes and float32, float64 for float64
"""

import torch

from ._checks import check_arrays
from ._precision import arithmetic_dtype
from ._scan import Scan, Step


def _factor(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return a


def _inflow(a: torch.Tensor, b: torch.Tensor, room: torch.Tensor) -> torch.Tensor:
    return b


def _write_gradients(out: list[torch.Tensor], before: torch.Tensor) -> None:
    torch.mul(out[1], before, out=out[0])


_STEP = Step(_factor, _inflow, _write_gradients)  # MDI-1


def linear_recurrence(a: torch.Tensor, b: torch.Tensor, h0: torch.Tensor) -> torch.Tensor:
    """Return h_t = a_t h_{t-1} + b_t with h_{-1} = h0.

    Clauses  MDI-1
    Args     a   [B, T, D]  decay per step, in [-1, 1]
             b   [B, T, D]  inflow per step
             h0  [B, D]     state before step 0
    Returns  [B, T, D] in the dtype of the arguments
    Raises   TypeError, ValueError when an argument has the wrong dtype or shape; in checked mode, value
    """
    check_arrays({"a": (a, "BTD"), "b": (b, "BTD"), "h0": (h0, "BD")}, domains={"a": (-1.0, 1.0)})
    return Scan.apply(_STEP, h0.to(arithmetic_dtype(a.dtype)), a, b)
