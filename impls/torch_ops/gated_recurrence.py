"""Gated recurrence: the state decides how much of the input it takes in.

Clauses     REC-1, REC-2, REC-9
Parallel    one step after another (each needs the last state); rows and channels at once
Memory      autograd keeps the state and the gate of every step
Precision   float32 for the narrow dtypes and float32, float64 for float64; the product with W_g in float64
"""

import torch

from ._checks import check_arrays
from ._precision import arithmetic_dtype, contiguous_double, linear
from ._steps import join_steps, time_steps, zero_of


def gated_recurrence(
    z: torch.Tensor, gamma: torch.Tensor, W_g: torch.Tensor, b_g: torch.Tensor, h0: torch.Tensor
) -> torch.Tensor:
    """Return h_t = z_t * sigmoid(W_g h_{t-1} + b_g) + gamma_t * h_{t-1} with h_{-1} = h0.

    Clauses  REC-1, REC-2, REC-9
    Args     z      [B, T, D]  input per step
             gamma  [B, T, D]  decay per step, in [0, 1]
             W_g    [D, D]     gate weight, acting on column vectors
             b_g    [D]        gate bias
             h0     [B, D]     state before step 0
    Returns  [B, T, D] in the dtype of the arguments
    Raises   TypeError, ValueError when an argument has the wrong dtype or shape; in checked mode, value
    """
    check_arrays(
        {"z": (z, "BTD"), "gamma": (gamma, "BTD"), "W_g": (W_g, "DD"), "b_g": (b_g, "D"), "h0": (h0, "BD")},
        domains={"gamma": (0.0, 1.0)},
    )
    if z.shape[1] == 0:
        return z + zero_of(gamma, W_g, b_g, h0)
    weight, bias = contiguous_double(W_g), contiguous_double(b_g)
    h = h0.to(arithmetic_dtype(h0.dtype)).contiguous()
    states = []
    for z_t, gamma_t in zip(time_steps(z), time_steps(gamma), strict=True):
        h = z_t * torch.sigmoid(linear(h, weight, bias)) + gamma_t * h  # REC-1
        states.append(h)
    return join_steps(states, z.dtype)
