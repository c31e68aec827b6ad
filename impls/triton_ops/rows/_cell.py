"""What is stepped: the gated recurrence or its adjoint, last step first.

    state' = inflow sigmoid(W state + bias) + gamma state                    the recurrence, inflow = z      (REC-1)
    state' = W (slope (inflow + state)) + gamma (inflow + state)             its adjoint, inflow = g         (ADJ-5)

The adjoint's state is what all later steps want of the state before one; W is W_g transposed and slope how the step feels
its logits, z gate (1 - gate). What W multiplies is called the operand of a step.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch

from . import _rows
from ._rate import sampled


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

    @cached_property
    def _sampled(self) -> tuple[float, torch.Tensor]:
        slope = self.inflow if self.slope is None else self.slope
        return sampled(self.gamma, slope, self.bias, self.weight, self.adjoint)

    def rate(self) -> float:
        growth, _ = self._sampled
        return -math.inf if growth == 0 else math.log(growth) / 2

    @property
    def norms(self) -> torch.Tensor:
        """Of the rows of the weight [D], in float32."""
        return self._sampled[1]
