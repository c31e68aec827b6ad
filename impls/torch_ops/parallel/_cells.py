"""One step of the gated recurrence, and one step of its adjoint, as the solver runs them.

Clauses     REC-1, ADJ-5, REC-PAR-2
Precision   as the loop: arithmetic dtype, products in float64. Defects in float64, against the exact step.

Room        What NUM-5 grants any implementation for one step, u being the unit roundoff: one rounding of the decay's
            product and one of the sum, unless these are exact; of the inflow z gate one rounding, 4 u (of the 8 u it
            grants) for the sigmoid, and what any order of the sum of the product W h + b does to the gate, at most
            D u (|W| |h| + |b|) (1 - gate) relative. A defect is measured in float64 from the exact step, so none of this
            is used up by the step that was taken. For float64 itself there is nothing finer to measure with: there the
            solver splices equal states only.
"""

from dataclasses import dataclass

import torch

from ._solver import Rows

UNIT = 2.0**-24  # unit roundoff of float32, the only arithmetic whose defects are measured


@dataclass(frozen=True)
class Forward:
    """h' = z sigmoid(W h + b) + gamma h; z, gamma [steps, rows, D], W [D, D] and b [D] in float64."""

    z: torch.Tensor
    gamma: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor

    def step(self, j: int, rows: Rows, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = torch.nn.functional.linear(x.double(), self.weight, self.bias)
        gate = torch.sigmoid(logits.to(x.dtype))
        return self.z[j, rows] * gate + self.gamma[j, rows] * x, logits  # REC-1

    def slope(self, j: int, rows: Rows, logits: torch.Tensor) -> torch.Tensor:
        gate = torch.sigmoid(logits)
        through_gate = self.z[j, rows] * gate * (1 - gate) * self.weight.diagonal()
        return (through_gate + self.gamma[j, rows]).to(self.z.dtype)

    def defect(
        self, j: int, rows: Rows, x: torch.Tensor, logits: torch.Tensor, stored: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        gate = torch.sigmoid(logits)
        inflow = self.z[j, rows] * gate
        terms = torch.nn.functional.linear(x.abs().double(), self.weight.abs(), self.bias.abs())
        missed, room = _sum_with_decay(inflow, self.gamma[j, rows], x, stored)
        return missed, room + UNIT * inflow.abs() * (5 + x.shape[1] * (1 - gate) * terms)


@dataclass(frozen=True)
class Backward:
    """w' = W^T (s (g + w)) + gamma (g + w), what the loss wants of the state before the step through all later steps.

    g is what it wants of the step's own state, s = z gate (1 - gate) how the step feels the gate's logits; g, s and
    gamma [steps, rows, D] run backwards in time.
    """

    g: torch.Tensor
    slope_of_gate: torch.Tensor
    gamma: torch.Tensor
    weight: torch.Tensor

    def step(self, j: int, rows: Rows, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        adjoint = self.g[j, rows] + x
        dlogits = adjoint * self.slope_of_gate[j, rows]
        through_gate = (dlogits.double() @ self.weight).to(x.dtype)
        return through_gate + self.gamma[j, rows] * adjoint, dlogits  # ADJ-5

    def slope(self, j: int, rows: Rows, dlogits: torch.Tensor) -> torch.Tensor:
        through_gate = self.slope_of_gate[j, rows] * self.weight.diagonal()
        return (through_gate + self.gamma[j, rows]).to(dlogits.dtype)

    def defect(
        self, j: int, rows: Rows, x: torch.Tensor, dlogits: torch.Tensor, stored: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        adjoint = self.g[j, rows] + x
        terms = dlogits.abs().double() @ self.weight.abs()
        missed, room = _sum_with_decay(dlogits.double() @ self.weight, self.gamma[j, rows], adjoint, stored)
        return missed, room + UNIT * x.shape[1] * terms


def _sum_with_decay(
    summand: torch.Tensor, gamma: torch.Tensor, x: torch.Tensor, stored: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """How far `stored` lies from summand + gamma x, and how far the roundings of product and sum may bring it."""
    decayed = gamma.double() * x.double()
    product_rounds = (gamma * x).double() != decayed
    sum_rounds = (summand != 0) & (decayed != 0)
    room = UNIT * (decayed.abs() * product_rounds + stored.abs() * sum_rounds)
    return stored.double() - (summand + decayed), room
