"""Many rows of the stabilized recurrence, or of its adjoint, and how their steps are launched.

A step has four stages: to publish what W multiplies, to multiply, to mix, and to settle what the norm makes of it. Between
them all programs wait for each other.
"""

from abc import abstractmethod
from typing import Any

import torch

from .._compile import CompileSpec, aligned, compile_spec
from .._launch import INTERPRETED, launch, next_power_of_2
from . import _rows
from ._tiles import tiles

VARIANTS = (
    ("bf16", "rms", 2, 1, 512),
    ("bf16", "layer", 2, 1, 128),
    ("fp32", "rms", 2, 2, 512),
    ("fp32", "none", 3, 3, 128),
    ("bf16", "rms", 2, 1, 16),
)


def specs_of(kernel: Any, float32: tuple[str, ...]) -> list[CompileSpec]:
    """Storage, norm, parts of the operand, parts of the weight, rows: not every combination, since each takes seconds."""
    float32 = ("sums_ptr", "carry_ptr", "previous_ptr", "logits_ptr", "out_ptr", "product_ptr", *float32)
    types = {
        "live_ptr": "*i32",
        "counter_ptr": "*i32",
        "operand_ptr": "*bf16",
        "W_ptr": "*bf16",
        "eps": "fp32",
        "clip": "fp32",
    }
    specs = []
    for storage, norm, parts, weight_parts, rows in VARIANTS:
        options = tiles(rows, 4096, parts, weight_parts, 132)
        spec = compile_spec(
            kernel, storage, float32, types=types, num_warps=options.pop("num_warps"), W_stride_k=1, NORM=norm,
            PARTS=parts, W_PARTS=weight_parts, EVEN_D=True, STAGE="all", PROGRAMS=4096 // options["BLOCK_D"],
            **options,
        )  # fmt: skip
        specs.append(aligned(spec, "R", "D", "W_stride_part", "W_stride_i"))
    return specs


# ---- launch ------------------------------------------------------------------------

FEW = 16 * 1024  # numbers, of all rows; of so few, matrix times vector row by row takes less time (measured)


class Rows(_rows.Rows):
    """Beside what all rows have: operands [parts, R, D], what W multiplied in the last step, the only one that is kept."""

    kernel: Any

    def __init__(self, cell: Any, carry: torch.Tensor, chunk: int, kept: int = 1, parts: int | None = None):
        super().__init__(cell, carry, chunk, 1, parts)
        self.cell = cell
        self.operands = carry.new_empty((self.parts, *carry.shape), dtype=self.weight.dtype)
        self.sums = carry.new_empty((2, self.grid[0], len(carry)))

    @abstractmethod
    def arguments(self) -> tuple[tuple[torch.Tensor, ...], tuple[int, ...], tuple[float, ...]]:
        """What the kernel wants to know of the cell: arrays, strides of those that may have any, numbers of the norm."""

    def operand(self) -> torch.Tensor:
        return self.operands[:1]

    def advance(self, out: torch.Tensor, first: int, steps: int, stored: int) -> None:
        (R, D), (B, T, _) = self.carry.shape, self.cell.shape
        arrays, strides, numbers = self.arguments()
        counters = self.counters()

        def run(stage: str, start: int, stop: int, **how: Any) -> None:
            launch(
                self.kernel, self.grid, self.carry.device,
                *arrays, self.weight, self.operands, self.sums, self.carry, self.previous, self.logits, self.live, out,
                self.product, counters, first, start, stop, steps, stored, R, B, T, self.chunk, D, *strides,
                *self.weight.stride(), *numbers, NORM=self.cell.stabilizer.norm, PARTS=self.parts, W_PARTS=len(self.weight),
                EVEN_D=self.even, STAGE=stage, PROGRAMS=next_power_of_2(self.grid[0]), **self.options, **how,
            )  # fmt: skip

        if INTERPRETED:  # programs run one after another: a barrier would wait for ever
            run("publish", 0, 0)
            for j in range(steps):
                run("multiply", j, j + 1)
                run("mix", j, j + 1)
                run("settle", j, j + 1)
        else:
            run("all", 0, steps, launch_cooperative_grid=True)
