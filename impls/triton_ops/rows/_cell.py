"""What is stepped: the gated recurrence or its adjoint, last step first.

    state' = inflow sigmoid(W state + bias) + gamma state                    the recurrence, inflow = z      (REC-1)
    state' = W (slope (inflow + state)) + gamma (inflow + state)             its adjoint, inflow = g         (ADJ-5)

The adjoint's state is what all later steps want of the state before one; W is W_g transposed and slope how the step feels
its logits, z gate (1 - gate). What W multiplies is called the operand of a step.
"""

from dataclasses import dataclass

import torch

from . import _rows

SAMPLE = 256  # steps from which the rate is estimated


@dataclass(frozen=True)
class Cell(_rows.Cell):
    """inflow, gamma, slope [B, T, D] with any strides; weight [D, D] with contiguous rows; bias [D]. slope is None
    forwards. In any float dtype; the state is in the arithmetic dtype, float32 (float64 for float64), and never rounded to
    less."""

    inflow: torch.Tensor
    gamma: torch.Tensor
    slope: torch.Tensor | None
    weight: torch.Tensor
    bias: torch.Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        B, T, D = self.inflow.shape
        return B, T, D

    @property
    def adjoint(self) -> bool:
        return self.slope is not None

    def first_operand(self, state: torch.Tensor, chunk: int, first: int) -> torch.Tensor:
        """What the weight multiplies in step `first` of every chunk: state [R, D], row c B + b for chunk c."""
        if self.slope is None:
            return state
        inflow, slope = (_at(x, chunk, first, state) for x in (self.inflow, self.slope))
        return slope * (inflow + state)

    def rate(self) -> torch.Tensor:
        """By what a difference grows in one step, the logarithm: of the channel that remembers longest, if the inflow
        has no memory of its own. The step's derivative is gamma + slope W, and independent terms add as squares."""
        T = self.shape[1]
        every = slice(None, None, max(1, T // SAMPLE))
        gamma = self.gamma[:, every].float()
        slope = self.inflow[:, every].float() if self.slope is None else self.slope[:, every].float()
        if self.slope is None:
            gate = torch.sigmoid(self.bias.float())
            slope = slope * gate * (1 - gate)
        through_gate = (
            slope.square().mean() * torch.linalg.vector_norm(self.weight, dtype=torch.float32) ** 2 / self.shape[2]
        )
        return (gamma.square().mean((0, 1)).amax() + through_gate).log() / 2


def _at(stream: torch.Tensor, chunk: int, step: int, like: torch.Tensor) -> torch.Tensor:
    """A stream [B, T, D] at one step of every chunk, [R, D]; 0 where time is over."""
    rows = stream[:, step::chunk].transpose(0, 1).reshape(-1, like.shape[1]).float()
    found = torch.zeros_like(like)
    found[: rows.shape[0]] = rows
    return found
