"""Stabilized recurrence: a convex mix of state and input, plus decay, normalised and clipped at every step.

Clauses     REC-10, REC-11, REC-12, REC-13, REC-14, REC-15, REC-16
Parallel    one step after another (each needs the last state); rows and channels at once
Memory      autograd keeps about ten arrays [B, D] per step
Precision   float32 for the narrow dtypes and float32, float64 for float64; the product with W_h and means in float64
"""

from dataclasses import dataclass

import torch

from ._checks import check_arrays, check_choice, check_number
from ._precision import arithmetic_dtype, contiguous_double, linear
from ._steps import join_steps, time_steps, zero_of

NORMS = ("rms", "layer", "none")
ARGUMENTS = {
    "z": "BTD",
    "gate_z": "BTD",
    "gamma": "BTD",
    "W_h": "DD",
    "b_h": "D",
    "norm_weight": "D",
    "norm_bias": "D",
    "h0": "BD",
}


@dataclass(frozen=True)
class Stabilizer:
    """Norm and clip of a step, with weight and bias of the norm in the dtype in which they compute.

    Means are taken in float64: how a sum in float32 is cut may depend on how many rows there are, and a row must not.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    norm: str
    eps: float
    clip: float

    def __call__(self, u: torch.Tensor) -> torch.Tensor:
        return self.normalize(u).clamp(-self.clip, self.clip)  # REC-15

    def normalize(self, u: torch.Tensor) -> torch.Tensor:  # REC-14
        if self.norm == "none":
            return u
        direction, _ = self.standardize(u)
        return direction * self.weight + self.bias if self.norm == "layer" else direction * self.weight

    def standardize(self, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """u, which "layer" centres first, over its size; and one over its size [..., 1]. "none": u, and 1."""
        if self.norm == "none":
            return u, torch.ones_like(u[..., :1])
        if self.norm == "layer":
            u = u - mean(u)  # two passes: E[u^2] - E[u]^2 would cancel
        scale = torch.rsqrt(mean(u.square()) + self.eps)
        return u * scale, scale

    def before_norm(self, grad: torch.Tensor, direction: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """The gradient of u from that of u over its size: what would change the size (and the mean) is taken out."""
        if self.norm == "none":
            return grad
        centred = grad - mean(grad) if self.norm == "layer" else grad
        return scale * (centred - direction * mean(grad * direction))


def mean(x: torch.Tensor) -> torch.Tensor:
    """Over the channels, which are kept with length 1."""
    return x.mean(-1, keepdim=True, dtype=torch.float64).to(x.dtype)


def mix(z: torch.Tensor, gamma: torch.Tensor, g: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """What a step normalises: the convex mix of state and input, and the decayed state."""
    return (1 - g) * h + g * z + gamma * h  # REC-12, REC-13


def stabilized_recurrence(
    z: torch.Tensor,
    gate_z: torch.Tensor,
    gamma: torch.Tensor,
    W_h: torch.Tensor,
    b_h: torch.Tensor,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    h0: torch.Tensor,
    *,
    norm: str = "rms",
    eps: float = 1e-6,
    clip: float = 100.0,
) -> torch.Tensor:
    """Return h_t = clip(norm(u_t), -clip, clip) with u_t = (1 - g_t) h_{t-1} + g_t z_t + gamma_t h_{t-1}.

    The gate is g_t = sigmoid(gate_z_t + W_h h_{t-1} + b_h). The norm "rms" uses norm_weight, "layer" uses
    norm_weight and norm_bias, "none" neither; the gradient of one that is not used is zero. The gradient of the
    clip is 1 where abs(value) <= clip and 0 outside.

    Clauses  REC-10, REC-11, REC-12, REC-13, REC-14, REC-15, REC-16
    Args     z, gate_z    [B, T, D]  input and its share of the gate, per step
             gamma        [B, T, D]  decay per step, in [0, 1]
             W_h, b_h     [D, D], [D]  weight (acting on column vectors) and bias of the state's share of the gate
             norm_weight, norm_bias  [D]
             h0           [B, D]     state before step 0
             norm         "rms", "layer" or "none";  eps >= 0;  clip > 0
    Returns  [B, T, D] in the dtype of the arguments
    Raises   TypeError, ValueError when an argument has the wrong dtype or shape, or an option an unknown value;
             in checked mode also for values outside the domain
    """
    check_call(z, gate_z, gamma, W_h, b_h, norm_weight, norm_bias, h0, norm=norm, eps=eps, clip=clip)
    if z.shape[1] == 0:
        return z + zero_of(gate_z, gamma, W_h, b_h, norm_weight, norm_bias, h0)
    arithmetic = arithmetic_dtype(z.dtype)
    weight, bias = contiguous_double(W_h), contiguous_double(b_h)
    stabilizer = Stabilizer(norm_weight.to(arithmetic), norm_bias.to(arithmetic), norm, eps, clip)
    h = h0.to(arithmetic).contiguous() + zero_of(norm_weight, norm_bias)
    states = []
    for z_t, gate_z_t, gamma_t in zip(time_steps(z), time_steps(gate_z), time_steps(gamma), strict=True):
        g = torch.sigmoid(gate_z_t + linear(h, weight, bias))  # REC-10, REC-11
        h = stabilizer(mix(z_t, gamma_t, g, h))
        states.append(h)
    return join_steps(states, z.dtype)


def check_call(*arrays: torch.Tensor, norm: str, eps: float, clip: float) -> None:
    """Raise TypeError or ValueError unless these are arguments and options of the op."""
    given = {name: (array, axes) for (name, axes), array in zip(ARGUMENTS.items(), arrays, strict=True)}
    check_arrays(given, domains={"gamma": (0.0, 1.0)})
    check_choice("norm", norm, NORMS)
    check_number("eps", eps, zero_allowed=True)
    check_number("clip", clip, zero_allowed=False)
