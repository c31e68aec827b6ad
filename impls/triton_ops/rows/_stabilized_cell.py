"""What is stepped: the stabilized recurrence or its adjoint, last step first.

    state' = stabilizer((1 - g) state + g z + gamma state), g = sigmoid(gate_z + W state + bias)      the recurrence (REC-10)
    state' = norm^T (pull (grad + kept state + W (slope state)))                                      its adjoint    (ADJ-6)

The adjoint's state is what the loss wants of the mix that a step normalises; W is W_h transposed, kept = 1 - g + gamma and
slope = g (1 - g) (z - h) are those of the step that was stepped back through before, and pull is the norm's weight where the
clip does not act, else 0.
"""

from dataclasses import dataclass

import torch

from .._stabilized_mixing import Mixing
from ._rows import Cell

SAMPLE = 256  # steps from which the rate is estimated


@dataclass(frozen=True)
class Stabilizer:
    """weight and shift [D], contiguous; norm "rms", "layer" or "none"."""

    weight: torch.Tensor
    shift: torch.Tensor
    norm: str
    eps: float
    clip: float

    def standardize(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x [..., D] in float32 as the norm scales it, and by what, [..., 1]; for estimates."""
        if self.norm == "none":
            return x, torch.ones_like(x[..., :1])
        if self.norm == "layer":
            x = x - x.mean(-1, keepdim=True)
        scale = (x.square().mean(-1, keepdim=True) + self.eps).rsqrt()
        return x * scale, scale

    def normalize(self, standard: torch.Tensor) -> torch.Tensor:
        if self.norm == "none":
            return standard
        weighted = standard * self.weight.float()
        return weighted + self.shift.float() if self.norm == "layer" else weighted

    def pull(self, standard: torch.Tensor) -> torch.Tensor:
        """How the state feels what the norm has scaled: by its weight, and not at all beyond the clip (ADJ-8)."""
        unclipped = self.normalize(standard).abs() <= self.clip
        return unclipped.float() if self.norm == "none" else unclipped * self.weight.float()


@dataclass(frozen=True)
class Forward(Cell):
    """z, gate_z, gamma [B, T, D] with any strides; weight [D, D] with contiguous rows; bias [D]. In any float dtype; the
    state is in the arithmetic dtype, float32 (float64 for float64), and never rounded to less."""

    z: torch.Tensor
    gate_z: torch.Tensor
    gamma: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor
    stabilizer: Stabilizer

    @property
    def shape(self) -> tuple[int, int, int]:
        B, T, D = self.z.shape
        return B, T, D

    def rate(self) -> float:
        """Estimated at some steps, from states to which the step before each would lead from 0."""
        z, gate_z, gamma = (sample(array) for array in (self.z, self.gate_z, self.gamma))
        form, bias, nothing = self.stabilizer, self.bias.float(), torch.zeros_like(z)
        after, _ = form.standardize(mix(z, gamma, torch.sigmoid(gate_z + bias), nothing))
        h = form.normalize(after).clamp(-form.clip, form.clip).roll(1, dims=1)
        gate = torch.sigmoid(gate_z + (h.to(self.weight.dtype) @ self.weight.T).float() + bias)
        standard, scale = form.standardize(mix(z, gamma, gate, h))
        return rate(1 - gate + gamma, gate * (1 - gate) * (z - h), form.pull(standard), scale, self.weight)


@dataclass(frozen=True)
class Backward(Cell):
    """grad and gamma [B, T, D] with any strides; weight [D, D], with contiguous rows, is W_h transposed. In any float
    dtype, mixing in the arithmetic dtype."""

    grad: torch.Tensor
    gamma: torch.Tensor
    mixing: Mixing
    weight: torch.Tensor
    stabilizer: Stabilizer

    @property
    def shape(self) -> tuple[int, int, int]:
        B, T, D = self.grad.shape
        return B, T, D

    def rate(self) -> float:
        gates, slopes, standards, scales = (sample(array) for array in self.mixing)
        return rate(
            1 - gates + sample(self.gamma), slopes, self.stabilizer.pull(standards), scales[..., None], self.weight
        )


def mix(z: torch.Tensor, gamma: torch.Tensor, gate: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    return (1 - gate) * h + gate * z + gamma * h


def sample(array: torch.Tensor) -> torch.Tensor:
    """Some steps of all batch rows, of [B, T, ...] in float32."""
    B, T = array.shape[:2]
    return array[:, :: max(1, B * T // SAMPLE)].float()


def rate(
    kept: torch.Tensor, slope: torch.Tensor, pull: torch.Tensor, scale: torch.Tensor, weight: torch.Tensor
) -> float:
    """By what a difference grows in one step, the logarithm: in the mean over channels, those that remember longer left aside.

    The step's derivative is scale pull (kept + slope W), but for what the norm takes off; independent terms add as squares.
    All [B, steps, D], scale [B, steps, 1].
    """
    through_gate = slope.square() * torch.linalg.vector_norm(weight, dtype=torch.float32) ** 2 / weight.shape[0]
    felt = (pull * scale).square().mean(2)
    itself = (kept * pull * scale).square().mean(2)
    return (itself + through_gate.mean(2) * felt).mean().log().item() / 2
