"""Time-parallel evaluations of the gated recurrence, right and with one mistake each (REC-PAR)."""

from collections.abc import Callable

import torch
from torch import Tensor

from mmrec.conformance.mutants._contract import Kernel, differentiated_by


def in_chunks(
    loop: Kernel, chunk: int, *, verifies: bool = True, late: int = 0, closeness: float = 0.0, mends: bool = True,
    carry: Callable[[Tensor, Tensor], Tensor] = lambda true, speculated: true,
) -> Kernel:  # fmt: skip
    """Speculate with the gate frozen, run all chunks, restart each from where the one before it ends, splice.

    A right one restarts chunk after chunk, so that one restart of each is enough; its gradient is that of ``loop``.

    verifies   whether chunks are restarted at all
    late       how many of the last states before a splice, or the end of a chunk, are not written
    closeness  largest relative difference of states that are taken for the same
    mends      whether a chunk is restarted from the mended end of the one before it, and not from the first one
    carry      what a chunk is restarted from, given the true state before it and the speculated one
    """

    def forward(z: Tensor, gamma: Tensor, W_g: Tensor, b_g: Tensor, h0: Tensor) -> Tensor:
        frozen = loop(z, gamma, torch.zeros_like(W_g), b_g, h0)
        cuts = [slice(first, first + chunk) for first in range(0, z.shape[1], chunk)]
        starts = [h0] + [frozen[:, cut.start - 1] for cut in cuts[1:]]
        swept = [loop(z[:, cut], gamma[:, cut], W_g, b_g, h) for cut, h in zip(cuts, starts, strict=True)]
        mended = [swept[0]]
        for c in range(1, len(cuts)):
            true = (mended if mends else swept)[c - 1][:, -1]
            again = loop(z[:, cuts[c]], gamma[:, cuts[c]], W_g, b_g, carry(true, starts[c]))
            mended.append(spliced(swept[c], again) if verifies else swept[c])
        return torch.cat(mended, dim=1)

    def spliced(stored: Tensor, again: Tensor) -> Tensor:
        """The new states up to the first that is as stored, row by row; then what is stored."""
        distance = (again - stored).abs().amax(-1) / stored.abs().amax(-1).clamp_min(torch.finfo(stored.dtype).tiny)
        met = (distance <= closeness).int().cumsum(1).clamp_max(1).bool()  # [B, steps], from the first meeting on
        early = torch.cat([met[:, late:], torch.ones_like(met[:, :late])], dim=1) if late else met
        return torch.where(early[..., None], stored, again)

    def adjoint(z: Tensor, gamma: Tensor, W_g: Tensor, b_g: Tensor, h0: Tensor, h: Tensor, g: Tensor):
        with torch.enable_grad():
            arrays = [x.detach().requires_grad_() for x in (z, gamma, W_g, b_g, h0)]
            return torch.autograd.grad(loop(*arrays), arrays, g)

    return differentiated_by(forward, adjoint)
