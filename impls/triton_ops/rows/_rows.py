"""What do the rows of every recurrence have in common, and what is stepped?"""

from abc import ABC, abstractmethod
from functools import cached_property

import torch

from .._launch import cdiv, processors_of
from .._parts import part_format, parts_of
from ._tiles import most_rows, shared_of, tiles

SHARE = 0.25  # of what the sum of a product is granted, for parts: splices need some of it


class Cell(ABC):
    """What is stepped: a recurrence, or the adjoint of one, last step first. What its weight multiplies is the operand.

    weight [D, D] has contiguous rows, in any float dtype."""

    weight: torch.Tensor

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """B, T, D."""

    @abstractmethod
    def rate(self) -> float:
        """By what a difference of two states grows in one step, the logarithm, as nearly as can be said beforehand."""

    @property
    def device(self) -> torch.device:
        return self.weight.device

    @property
    def parts(self) -> int:
        """Of how many parts the operand is made."""
        return part_format(self.weight.shape[0], SHARE)[1]

    @cached_property
    def weight_parts(self) -> torch.Tensor:
        """The weight, as tensor cores multiply it: the sum of [parts, D, D], of one if it is as narrow as they are."""
        dtype, parts = part_format(self.weight.shape[0], SHARE)
        return self.weight[None] if self.weight.dtype == dtype else parts_of(self.weight.float(), parts, dtype)


class Rows(ABC):
    """All chunks of `chunk` steps of all batch rows, or all batch rows if one chunk is as long as time; and the buffers of
    their steps.

    carry [R, D] holds their states, float32, row c * B + b for chunk c, and is overwritten; after `advance` previous and
    logits [kept, R, D] hold what the last steps began with and what W made of it.
    """

    def __init__(self, cell: Cell, carry: torch.Tensor, chunk: int, kept: int, parts: int | None = None):
        self.carry, self.chunk, self.kept = carry, chunk, kept
        self.parts = cell.parts if parts is None else parts
        self.weight = cell.weight_parts if self.parts > 1 else cell.weight_parts[:1]
        self.previous, self.logits = (carry.new_empty((kept, *carry.shape)) for _ in range(2))
        (R, D), device = carry.shape, carry.device
        self.live = torch.ones(R, dtype=torch.int32, device=device)
        self.options = tiles(R, D, self.parts, len(self.weight), processors_of(device), shared_of(device))
        splits = self.options["SPLITS"]
        self.grid = (cdiv(D, self.options["BLOCK_D"]), cdiv(R, self.options["BLOCK_R"]), splits)
        self.product = carry.new_empty((splits, R, D))
        self.even = D % self.options["BLOCK_K"] == 0 and D % self.options["BLOCK_D"] == 0

    def counters(self) -> torch.Tensor:
        """What programs count to wait for each other, in one launch: for every row of tiles, and for every tile."""
        tiles_of_row, rows_of_tiles, _ = self.grid
        return torch.zeros(rows_of_tiles * (1 + tiles_of_row), dtype=torch.int32, device=self.carry.device)

    @abstractmethod
    def advance(self, out: torch.Tensor, first: int, steps: int, stored: int) -> None:
        """Take every row `steps` steps from its step `first` on; live rows store the first `stored` in out [B, T, D], rounded
        to its dtype."""

    @abstractmethod
    def operand(self) -> torch.Tensor:
        """What W multiplied in the steps that are kept, [kept, R, D], as nearly as one part says it."""


def are_many(cell: Cell, few: int) -> bool:
    """Whether the states of the batch are more than a few numbers, and tensor cores can multiply all its rows at once."""
    B, _, D = cell.shape
    return few < B * D and most_rows(D, cell.device) >= B and cell.weight.dtype != torch.float64
