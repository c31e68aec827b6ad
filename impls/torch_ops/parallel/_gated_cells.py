"""One step of the gated recurrence, and one step of its adjoint, as the solver runs them.

Clauses     REC-1, ADJ-5, REC-PAR-2
Precision   as the loop: arithmetic dtype, products in float64
Room        that of the gated input and of the decayed state (_room.py)
"""

from dataclasses import dataclass

import torch

from ._room import of_gate, of_sum, with_decay
from ._solver import Rows


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
        terms = torch.nn.functional.linear(x.abs().double(), self.weight.abs(), self.bias.abs())
        exact, room = with_decay(self.z[j, rows] * gate, self.gamma[j, rows], x)
        return stored - exact, room + self.z[j, rows].abs() * of_gate(gate, terms, x.shape[1])


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
        exact, room = with_decay(dlogits.double() @ self.weight, self.gamma[j, rows], adjoint)
        return stored - exact, room + of_sum(terms, x.shape[1])
