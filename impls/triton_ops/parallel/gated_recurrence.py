"""Gated recurrence in parallel over time (forward so far)."""

import torch

from ._solver import Report, Solver, default_chunk


def gated_recurrence_parallel(z, gamma, W_g, b_g, h0, *, chunk=None, tolerance=1.0) -> tuple[torch.Tensor, Report]:
    solver = Solver(z, gamma, W_g.contiguous(), b_g.contiguous(), h0.float().contiguous(),
                    min(chunk or default_chunk(z.shape[0], z.shape[1]), z.shape[1]), tolerance)  # fmt: skip
    report = solver.run()
    return solver.out, report
