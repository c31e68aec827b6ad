"""Is a peer right? Its answer to one small case, drawn as the timed ones are, within the bound of its op?

The bound is the judge's own (`numerics/`): what any order of evaluation in float32 may err. A peer never promised
it, so it is not rejected at 1: the share of the bound that it uses is shown, and a large one is called wrong.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from mmrec.benchmarks.cases import Case, Lengths
from mmrec.benchmarks.peers import Peer, case_of
from mmrec.benchmarks.work import draw_of
from mmrec.conformance.frameworks import framework
from mmrec.conformance.judge import compare_arrays
from mmrec.conformance.ops import Arrays
from mmrec.conformance.oracle import enclosures, gradient_enclosures
from mmrec.numerics.bounds import Question
from mmrec.numerics.formats import FORMATS

LENGTHS = Lengths(3, 4096, 4)  # long enough for a second block of any peer's
WRONG_BEYOND = 100.0  # measured, not derived: README.md, "Peers", has the figures on both sides


@dataclass(frozen=True)
class Checked:
    """The largest share of the bound that an element used, and which element it was."""

    budget: float
    where: str

    @property
    def wrong(self) -> bool:
        return not self.budget <= WRONG_BEYOND


@cache
def check(peer: Peer, dtype: str, direction: str, regime: str, device: str) -> Checked:
    """Held against the exact values or, where these are timed, the gradients of every argument that it takes."""
    case = case_of(peer, direction, LENGTHS, dtype, regime)
    op, storage, speak = case.row, FORMATS[dtype], framework(peer.framework)
    inputs = inputs_of(case, peer)
    g = storage.round(np.random.default_rng(1).standard_normal(LENGTHS.shape("BTD")))
    arrays = {name: speak.make(values, dtype, "contiguous", False, device) for name, values in inputs.items()}
    ask = _torch_answers if peer.framework == "torch" else _jax_answers
    result, gradients = ask(peer, arrays, speak.make(g, dtype, "contiguous", False, device), direction)
    states = speak.read(result)[0]
    options = dict(op.default_options)
    if direction == "forward":
        question = Question(inputs, options, storage, states, declares=peer.declares)
        found, expected = {"result": states}, enclosures(op, question)
    else:
        found = {name: speak.read(gradient)[0] for name, gradient in gradients.items()}
        question = Question(inputs, options, storage, states, g, found, peer.declares)
        expected = gradient_enclosures(op, question)
    worst = max((compare_arrays(storage, name, array, expected[name]) for name, array in found.items()),
                key=lambda finding: finding.budget)  # fmt: skip
    return Checked(worst.budget, worst.where)


def inputs_of(case: Case, peer: Peer) -> Arrays:
    """The op's arguments in float64, rounded to storage; what the peer starts from where it takes no initial state."""
    rng = np.random.default_rng(0)
    inputs = {}
    for name, letters in case.row.arguments.items():
        kind, low, high = draw_of(case.row, name, case)
        shape = case.lengths.shape(letters)
        drawn = rng.uniform(low, high, shape) if kind == "uniform" else high * rng.standard_normal(shape)
        inputs[name] = FORMATS[case.dtype].round(drawn)
    if peer.starts_from is not None:
        inputs[case.row.carry] = np.full_like(inputs[case.row.carry], peer.starts_from)
    return inputs


def _torch_answers(peer: Peer, arrays: Arrays, g: Any, direction: str) -> tuple[Any, dict[str, Any]]:
    import torch

    def in_its_layout(array: torch.Tensor) -> torch.Tensor:
        return array.transpose(1, 2).contiguous() if array.ndim == 3 and peer.layout == "BDT" else array

    backward = direction != "forward"
    leaves = {name: array.requires_grad_(backward) for name, array in arrays.items()}  # type: ignore[attr-defined]
    result = peer.call(*map(in_its_layout, peer.adapt(*leaves.values())))
    result = result.transpose(1, 2) if peer.layout == "BDT" else result
    if not backward:
        return result, {}
    taken = [name for name in leaves if name in peer.takes]
    gradients = torch.autograd.grad(result, [leaves[name] for name in taken], g)
    return result, dict(zip(taken, gradients, strict=True))


def _jax_answers(peer: Peer, arrays: Arrays, g: Any, direction: str) -> tuple[Any, dict[str, Any]]:
    import jax

    result, pull_back = jax.vjp(jax.jit(lambda *given: peer.call(*peer.adapt(*given))), *arrays.values())
    if direction == "forward":
        return result, {}
    gradients = dict(zip(arrays, pull_back(g), strict=True))
    return result, {name: gradient for name, gradient in gradients.items() if name in peer.takes}
