"""How far may a rounding bring one step from the exact one? The parts that the steps of both recurrences share.

Clauses     REC-PAR-2, NUM-5
Precision   defects in float64, against the exact step; so of the room nothing is used up by the step that was taken. For
            float64 itself there is nothing finer to measure with: there the solver splices equal states only

Room        What NUM-5 grants any implementation, u being the unit roundoff. A product that decays the state: one rounding,
            unless it is exact; the sum with it: one, unless a summand is 0. A sum of D products, in any order: D u of the
            sizes of its terms. A gate: 5 u (of the 8 u it grants) for the sigmoid and one product with it, and what any
            order of the sum of its logits does to it, at most D u (sizes of the terms) (1 - gate) relative.
"""

import torch

UNIT = 2.0**-24  # unit roundoff of float32, the only arithmetic whose defects are measured


def of_sum(terms: torch.Tensor, D: int) -> torch.Tensor:
    """Room of a sum of D products, given the sum of their sizes."""
    return UNIT * D * terms


def of_gate(gate: torch.Tensor, terms: torch.Tensor, D: int) -> torch.Tensor:
    """Room of a gate, given the sum of the sizes of its logits' terms; of a product with it, relative to the other factor."""
    return (gate * (5 * UNIT + (1 - gate) * of_sum(terms, D))).clamp_max(1)


def with_decay(summand: torch.Tensor, factor: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """summand + factor x in float64, and the room of its product and its sum; factor and x in float32."""
    decayed = factor.double() * x.double()
    total = summand + decayed
    product_rounds = (factor * x).double() != decayed
    sum_rounds = (summand != 0) & (decayed != 0)
    return total, UNIT * (decayed.abs() * product_rounds + total.abs() * sum_rounds)
