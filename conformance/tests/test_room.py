"""Is a time-parallel solver that uses all of the room it measures, at every step, still within the bound (REC-PAR-2, NUM-5)?

The solver is replaced by one that takes every step and then moves its result as far as a splice could have.
"""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from mmrec.conformance.ops import Sizes, all_ops
from mmrec.impls.jax_ops.parallel import Report as JaxReport
from mmrec.impls.jax_ops.parallel._room import KEPT, within
from mmrec.impls.torch_ops.parallel import Report as TorchReport
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
CASES = [(op, options) for op in OPTIONS for options in OPTIONS[op]]
STEPS = 9


class Spoiler:
    """Leaves every state at one end of its room or the other, but for what float32 does not reach."""

    def __init__(self, rng):
        self.rng, self.furthest = rng, 0.0  # the largest move beside the largest state of its step

    def signs(self, room):
        return self.rng.choice([-1.0, 1.0], room.shape)

    def saw(self, moved, new):
        self.furthest = max(self.furthest, float(abs(moved - new).max() / abs(moved).max()))

    def solve_torch(self, cell, first, guesses, steps, tolerance):
        x, states, everyone = first, [], slice(None)
        for j in range(steps):
            new, known = cell.step(j, everyone, x)
            missed, room = cell.defect(j, everyone, x, known, new)
            moved = (new - missed + room * torch.tensor(self.signs(room))).float()
            missed, room = cell.defect(j, everyone, x, known, moved)
            x = torch.where(missed.abs() <= room, moved, new)
            self.saw(x, new)
            states.append(x)
        return torch.stack(states), TorchReport(0.0, 1, False, steps)

    def solve_jax(self, cell, first, tolerance):
        x, states = first[None], []
        for j in range(STEPS):
            inputs = tuple(array[j] for array in cell.inputs)
            new, _ = cell.step(inputs, x)
            missed, room = cell.defect(inputs, x, new)
            moved = new - missed + KEPT * room * jnp.asarray(self.signs(room), "float32")
            missed, room = cell.defect(inputs, x, moved)
            x = jnp.where(within(missed, room, 1.0), moved, new)
            self.saw(x, new)
            states.append(x)
        return jnp.stack(states), JaxReport(jnp.float32(0), jnp.int32(1), jnp.bool(False), jnp.int32(STEPS))


def asked_of_torch(op, inputs, cotangent):
    arrays = [torch.tensor(x, dtype=torch.float32, requires_grad=True) for x in inputs]
    h, _ = op(*arrays)
    gradients = torch.autograd.grad(h, arrays, torch.tensor(cotangent, dtype=torch.float32))
    return [x.detach().double().numpy() for x in (h, *gradients)]


def asked_of_jax(op, inputs, cotangent):
    with jax.disable_jit():
        h, pull_back = jax.vjp(lambda *arrays: op(*arrays)[0], *(jnp.asarray(x, "float32") for x in inputs))
        return [np.asarray(x, np.float64) for x in (h, *pull_back(jnp.asarray(cotangent, "float32")))]


@pytest.mark.parametrize("D", (2, 65))
@pytest.mark.parametrize("framework", ("torch", "jax"))
@pytest.mark.parametrize(("name", "options"), CASES, ids=lambda value: str(value))
def test_all_of_the_room_at_every_step_is_within_num_5(name, options, framework, D, monkeypatch):
    op, furthest = all_ops()[name], 0.0
    module = importlib.import_module(f"mmrec.impls.{framework}_ops.parallel.{name}")
    for seed, regime in enumerate(("contracting", "chaotic", "with_zeros")):
        rng = np.random.default_rng(seed)
        spoiler = Spoiler(rng)
        monkeypatch.setattr(module, "solve", getattr(spoiler, f"solve_{framework}"))
        inputs = {key: FLOAT32.round(x) for key, x in op.regimes[regime](rng, Sizes(B=1, T=STEPS, D=D)).items()}
        cotangent = FLOAT32.round(rng.standard_normal(inputs["z"].shape))
        ask = asked_of_torch if framework == "torch" else asked_of_jax

        def parallel(*arrays):
            return getattr(module, f"{name}_parallel")(*arrays, **options, chunk=STEPS)

        h, *gradients = ask(parallel, inputs.values(), cotangent)
        shown = dict(zip(inputs, gradients, strict=True))
        question = Question(inputs, options, FLOAT32, h, cotangent, shown)
        bounds = {"result": op.bound.enclose(question)["result"], **op.bound.enclose_gradients(question)}
        for key, bound in bounds.items():
            assert np.max(budget({"result": h, **shown}[key], bound, FLOAT32, FLOAT32)) <= 1, (regime, key)
        furthest = max(furthest, spoiler.furthest)
    assert furthest > FLOAT32.unit, "no state was moved by more than a rounding: this shows nothing"
