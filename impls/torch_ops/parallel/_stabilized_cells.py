"""One step of the stabilized recurrence, and one step of its adjoint, as the solver runs them.

Clauses     REC-10, REC-11, REC-12, REC-13, REC-14, REC-15, ADJ-6, REC-PAR-2
Precision   as the loop: arithmetic dtype, products and means in float64

Room        Forwards, the gate's room (_room.py) moves the mix by at most itself times |h| + |z|, since 1 - g and g are computed
            apart, and the mix has the room of its decay: together E. "layer" takes the mean off, which adds
            mean(E) + (D - 1) u mean|u|. With n the direction of what is left, r one over its size and w the weight, the
            state's room is, to first order,

                |w| r (E + |n| mean(|n| E))  +  |w n| u (4 + (D - 1)/2)

            E itself, E through the size, and what the size errs by: 4 u of the inverse root, and D - 1 roundings of a sum
            that enters by its root. All this at once is granted, as absolute values: an admissible evaluation may err by
            each with any sign. Beyond the clip nothing is left of it, unless it reaches back.
            Backwards E is the room of the product with W^T, of the decay and of two additions, times |w|; then the same,
            but for the size, which is known: r (E + |n| mean(|n| E)) and (D - 1) u for each of the norm's sums.
"""

from dataclasses import dataclass, replace

import torch

from ..stabilized_recurrence import Stabilizer, mean, mix
from ._room import UNIT, of_gate, of_sum, with_decay
from ._solver import Rows


@dataclass(frozen=True)
class Forward:
    """h' = stabilizer((1 - g) h + g z + gamma h), g = sigmoid(gate_z + W h + b).

    z, gate_z, gamma [steps, rows, D]; W [D, D] and b [D] in float64.
    """

    z: torch.Tensor
    gate_z: torch.Tensor
    gamma: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor
    stabilizer: Stabilizer

    def step(self, j: int, rows: Rows, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = torch.nn.functional.linear(x.double(), self.weight, self.bias)
        gate = torch.sigmoid(self.gate_z[j, rows] + logits.to(x.dtype))  # REC-10, REC-11
        return self.stabilizer(mix(self.z[j, rows], self.gamma[j, rows], gate, x)), logits

    def slope(self, j: int, rows: Rows, logits: torch.Tensor) -> torch.Tensor:
        """0: through the norm a change of one channel is one of all. With the diagonal, depths were the same (measured)."""
        return torch.zeros((), dtype=self.z.dtype, device=self.z.device)

    def defect(
        self, j: int, rows: Rows, x: torch.Tensor, logits: torch.Tensor, stored: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        z, gate_z, h = self.z[j, rows].double(), self.gate_z[j, rows].double(), x.double()
        gate = torch.sigmoid(gate_z + logits)
        terms = gate_z.abs() + torch.nn.functional.linear(h.abs(), self.weight.abs(), self.bias.abs())
        mixed, room = with_decay((1 - gate) * h + gate * z, self.gamma[j, rows], x)
        room = room + of_gate(gate, terms, x.shape[1]) * (h.abs() + z.abs())
        return self._stabilized(mixed, room, stored)

    def _stabilized(
        self, mixed: torch.Tensor, room: torch.Tensor, stored: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """How far `stored` lies from what the norm and the clip make of `mixed`, and how far it may."""
        D, form = mixed.shape[1], self.stabilizer
        exact = replace(form, weight=form.weight.double(), bias=form.bias.double())
        value = exact.normalize(mixed)
        if form.norm != "none":
            if form.norm == "layer":
                room = room + mean(room + of_sum(mixed.abs(), D - 1))
            direction, scale = exact.standardize(mixed)
            of_size = (4 + (D - 1) / 2 * (1 - form.eps * scale.square())) * UNIT
            room = scale * through_norm(room, direction) + of_size * direction.abs()
            room = room * exact.weight.abs()
        unbound = value.abs() <= form.clip + room
        return stored - value.clamp(-form.clip, form.clip), room.where(unbound, 0.0)


def through_norm(room: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    """What the derivative of a norm makes of it at most, but for the scale: each element's own, and all through the size."""
    return room + direction.abs() * mean(direction.abs() * room)


@dataclass(frozen=True)
class Backward:
    """e' = norm^T (g + k e + W^T (s e)), what the loss wants of what a step normalises, from the same of the step after it.

    k = 1 - gate + gamma and s = (z - h) gate (1 - gate) are how the later step's sum feels the state and its gate's
    logits; g is what the loss wants of the state between the two. All [steps, rows, D], backwards in time, and so
    are `pull`, the norm's weight where the clip does not act and else 0, and direction and scale of what is normalised.
    """

    g: torch.Tensor
    kept: torch.Tensor
    slope_of_gate: torch.Tensor
    weight: torch.Tensor
    pull: torch.Tensor
    direction: torch.Tensor
    scale: torch.Tensor  # [steps, rows, 1]
    stabilizer: Stabilizer

    def step(self, j: int, rows: Rows, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        dlogits = x * self.slope_of_gate[j, rows]
        through_gate = (dlogits.double() @ self.weight).to(x.dtype)
        wanted = self.g[j, rows] + (through_gate + self.kept[j, rows] * x)
        pulled = wanted * self.pull[j, rows]
        return self.stabilizer.before_norm(pulled, self.direction[j, rows], self.scale[j, rows]), dlogits  # ADJ-6

    def slope(self, j: int, rows: Rows, dlogits: torch.Tensor) -> torch.Tensor:
        """0, as forwards."""
        return torch.zeros((), dtype=dlogits.dtype, device=dlogits.device)

    def defect(
        self, j: int, rows: Rows, x: torch.Tensor, dlogits: torch.Tensor, stored: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        D, g = x.shape[1], self.g[j, rows].double()
        pull, direction, scale = (array[j, rows].double() for array in (self.pull, self.direction, self.scale))
        later, room = with_decay(dlogits.double() @ self.weight, self.kept[j, rows], x)
        room = room + of_sum(dlogits.abs().double() @ self.weight.abs(), D) + UNIT * (g.abs() + later.abs())
        room, pulled = room * pull.abs(), pull * (g + later)
        exact = self.stabilizer.before_norm(pulled, direction, scale)
        if self.stabilizer.norm != "none":
            if self.stabilizer.norm == "layer":
                room = room + mean(room) + of_sum(mean(pulled.abs()), D - 1)
            of_mean = of_sum(mean((pulled * direction).abs()), D - 1)
            room = scale * (through_norm(room, direction) + direction.abs() * of_mean)
        return stored - exact, room
