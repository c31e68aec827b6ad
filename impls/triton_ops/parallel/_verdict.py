"""What does every judge of splices have in common?"""

from abc import ABC, abstractmethod

import torch
import triton
import triton.language as tl

from ..rows._rows import Cell, Rows

ROUNDED = 1 - 2.0**-6  # the product of two bfloat16 and the store may each have been rounded up by 2^-8


@triton.jit
def load_stream(pointer, b, t, d, stride_b, stride_t, stride_d, inside):
    """A stream [B, T, D] at one step of one row."""
    return tl.load(pointer + b * stride_b + t * stride_t + d * stride_d, mask=inside, other=0.0).to(tl.float32)


class Splices(ABC):
    """Judges the splices of one solution: `tolerance` is the share of its room that one may use, 0 splices equal states
    only. defect [R] is the largest difference spliced in each row so far, relative."""

    near: float  # rows that differ by so little, beside their largest state, are spliced at most places

    def __init__(self, cell: Cell, rows: int, tolerance: float):
        self.tolerance = tolerance
        self.magnitudes = cell.weight.abs().to(torch.bfloat16).T
        self.defect = torch.zeros(rows, dtype=torch.float32, device=cell.device)

    def terms(self, rows: Rows) -> torch.Tensor:
        """|W||x| of the operands x of the steps that are kept, [kept, R, D], each number at most 1/ROUNDED too large."""
        return (rows.operand().abs().to(torch.bfloat16) @ self.magnitudes).float()

    @abstractmethod
    def spread(self, memory: int, chunk: int, rows: int) -> int:
        """Over how many steps a splice may be spread, if a difference is forgotten in `memory` steps."""

    @abstractmethod
    def forget(self, live: torch.Tensor) -> None:
        """Rows that live have run to the ends of their chunks: of their splices none is left."""

    @abstractmethod
    def judge(self, rows: Rows, out: torch.Tensor, step: int) -> None:
        """Splice the live rows that may be at `step`, the first of those that are kept; store their states
        of the others."""
