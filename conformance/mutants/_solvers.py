"""Time-parallel evaluations of a recurrence, right and with one mistake each (REC-PAR)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mmrec.conformance.mutants._contract import Kernel, differentiated_by


def in_chunks(
    loop: Kernel, chunk: int, *, verifies: bool = True, late: int = 0, closeness: float = 0.0, mends: bool = True,
    carry: Callable[[Tensor, Tensor], Tensor] = lambda true, speculated: true,
) -> Kernel:  # fmt: skip
    """Speculate with the gate frozen, run all chunks, restart each from where the one before it ends, splice.

    ``loop`` takes the state before the first step last; what has three axes are steps, what is square weights of the state.
    A right one restarts chunk after chunk, so that one restart of each is enough; its gradient is that of ``loop``.

    verifies   whether chunks are restarted at all
    late       how many of the last states before a splice, or the end of a chunk, are not written
    closeness  largest relative difference of states that are taken for the same
    mends      whether a chunk is restarted from the mended end of the one before it, and not from the first one
    carry      what a chunk is restarted from, given the true state before it and the speculated one
    """

    def forward(*arrays: Tensor, **options: Any) -> Tensor:
        *inputs, h0 = arrays
        steps = next(x.shape[1] for x in inputs if x.ndim == 3)

        def run(cut: slice, h: Tensor) -> Tensor:
            return loop(*(x[:, cut] if x.ndim == 3 else x for x in inputs), h, **options)

        frozen = loop(*(torch.zeros_like(x) if x.ndim == 2 else x for x in inputs), h0, **options)
        cuts = [slice(first, first + chunk) for first in range(0, steps, chunk)]
        starts = [h0] + [frozen[:, cut.start - 1] for cut in cuts[1:]]
        swept = [run(cut, h) for cut, h in zip(cuts, starts, strict=True)]
        mended = [swept[0]]
        for c in range(1, len(cuts)):
            true = (mended if mends else swept)[c - 1][:, -1]
            mended.append(spliced(swept[c], run(cuts[c], carry(true, starts[c]))) if verifies else swept[c])
        return torch.cat(mended, dim=1)

    def spliced(stored: Tensor, again: Tensor) -> Tensor:
        """The new states up to the first that is as stored, row by row; then what is stored."""
        distance = (again - stored).abs().amax(-1) / stored.abs().amax(-1).clamp_min(torch.finfo(stored.dtype).tiny)
        met = (distance <= closeness).int().cumsum(1).clamp_max(1).bool()  # [B, steps], from the first meeting on
        early = torch.cat([met[:, late:], torch.ones_like(met[:, :late])], dim=1) if late else met
        return torch.where(early[..., None], stored, again)

    def adjoint(*arrays: Tensor, **options: Any) -> tuple[Tensor, ...]:
        *given, _h, g = arrays
        with torch.enable_grad():
            given = [x.detach().requires_grad_() for x in given]
            return torch.autograd.grad(loop(*given, **options), given, g, materialize_grads=True)

    def differentiated(*arrays: Tensor, **options: Any) -> Tensor:
        return differentiated_by(partial(forward, **options), partial(adjoint, **options))(*arrays)

    return differentiated


def halfway(true: Tensor, speculated: Tensor) -> Tensor:
    """Between the state that a chunk should begin with and the one that was guessed, as a damped correction leaves it."""
    return (true + speculated) / 2


def speculated_alone(true: Tensor, speculated: Tensor) -> Tensor:
    return speculated
