"""Is a time-parallel solver that uses all of the room it measures, at every step, still within the bound (REC-PAR-2, NUM-5)?

The solver is replaced by one that takes every step and then moves its result as far as a splice could have.
"""

import importlib

import numpy as np
import pytest
import torch

from mmrec.conformance.ops import Sizes, all_ops
from mmrec.impls.torch_ops.parallel import SUBJECT, Report
from mmrec.numerics.bounds import Question
from mmrec.numerics.formats import FLOAT32
from mmrec.numerics.judgement import budget

OPTIONS = {
    "gated_recurrence": [{}],
    "stabilized_recurrence": [
        {"norm": norm, "eps": eps, "clip": clip}
        for norm in ("rms", "layer", "none")
        for eps, clip in ((1e-6, 100.0), (1e-3, 1.5))
    ],
}
CASES = [(op, options) for op in SUBJECT["ops"] for options in OPTIONS[op]]


def spoiling_solver(rng, moves):
    """A `solve` that leaves every state at one end of its room or the other, but for what float32 does not reach.

    How far it moved the states of each step, beside the largest, is added to ``moves``.
    """

    def solve(cell, first, guesses, steps, tolerance):
        x, states, everyone = first, [], slice(None)
        for j in range(steps):
            new, known = cell.step(j, everyone, x)
            missed, room = cell.defect(j, everyone, x, known, new)
            moved = (new - missed + room * torch.tensor(rng.choice([-1.0, 1.0], room.shape))).float()
            missed, room = cell.defect(j, everyone, x, known, moved)
            x = torch.where(missed.abs() <= room, moved, new)
            states.append(x)
            moves.append(((x - new).abs().max() / x.abs().max()).item())
        return torch.stack(states), Report(0.0, 1, False, steps)

    return solve


@pytest.mark.parametrize("D", (2, 65))
@pytest.mark.parametrize(("name", "options"), CASES, ids=lambda value: str(value))
def test_all_of_the_room_at_every_step_is_within_num_5(name, options, D, monkeypatch):
    op, moves = all_ops()[name], []
    solver = importlib.import_module(f"mmrec.impls.torch_ops.parallel.{name}")
    for seed, regime in enumerate(("contracting", "chaotic", "with_zeros")):
        rng = np.random.default_rng(seed)
        monkeypatch.setattr(solver, "solve", spoiling_solver(rng, moves))
        inputs = {key: FLOAT32.round(x) for key, x in op.regimes[regime](rng, Sizes(B=1, T=17, D=D)).items()}
        arrays = [torch.tensor(x, dtype=torch.float32, requires_grad=True) for x in inputs.values()]
        cotangent = FLOAT32.round(rng.standard_normal(inputs["z"].shape))
        h, _ = getattr(solver, f"{name}_parallel")(*arrays, **options, chunk=17)
        gradients = torch.autograd.grad(h, arrays, torch.tensor(cotangent, dtype=torch.float32))
        shown = {key: x.double().numpy() for key, x in zip(inputs, gradients, strict=True)}
        question = Question(inputs, options, FLOAT32, h.detach().double().numpy(), cotangent, shown)
        judged = {"result": (question.result, op.bound.enclose(question)["result"])}
        judged |= {key: (shown[key], bound) for key, bound in op.bound.enclose_gradients(question).items()}
        for key, (value, bound) in judged.items():
            assert np.max(budget(value, bound, FLOAT32, FLOAT32)) <= 1, (regime, key)
    assert max(moves) > FLOAT32.unit, "no state was moved by more than a rounding: this shows nothing"
