"""What does the weight multiply in a step of every chunk, given the states before it?

Clauses     REC-1, ADJ-5
Parallel    one program per row, block of channels and step
Memory      reads each state once, and for an adjoint inflow and slope of its step; writes the operand's parts
Precision   float32, then parts (_parts.py)
"""

import torch
import triton
import triton.language as tl

from .._compile import CompileSpec, compile_spec
from .._launch import cdiv, launch, next_power_of_2
from ._cell import Cell
from ._product import publish

# ---- device code -------------------------------------------------------------------


@triton.jit(do_not_specialize=["first", "R", "B", "T", "chunk"])
def operand_kernel(
    inflow_ptr, slope_ptr, state_ptr, operand_ptr, first, R, B, T, chunk, D,
    inflow_stride_b, inflow_stride_t, inflow_stride_d, slope_stride_b, slope_stride_t, slope_stride_d,
    ADJOINT: tl.constexpr, PARTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Row c * B + b of state [steps, R, D] number i is the one before step first + i of chunk c; the operand is 0 where time is
    over."""
    r, i = tl.program_id(0).to(tl.int64), tl.program_id(2)
    d = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    operand = tl.load(state_ptr + i * R * D + r * D + d, mask=d < D, other=0.0)
    if ADJOINT:
        b, t = r % B, (r // B) * chunk + first + i
        inside = d < tl.where(t < T, D, 0)
        inflow_at = inflow_ptr + b * inflow_stride_b + t * inflow_stride_t + d * inflow_stride_d
        slope_at = slope_ptr + b * slope_stride_b + t * slope_stride_t + d * slope_stride_d
        inflow = tl.load(inflow_at, mask=inside, other=0.0).to(tl.float32)
        operand = tl.load(slope_at, mask=inside, other=0.0).to(tl.float32) * (inflow + operand)
    publish(operand_ptr + i * PARTS * R * D, operand, r * D + d, R * D, d < D, PARTS)


def compile_specs() -> list[CompileSpec]:
    types = {"operand_ptr": "*bf16"}
    return [
        compile_spec(operand_kernel, storage, ("state_ptr",), types=types, ADJOINT=adjoint, PARTS=2, BLOCK=1024)
        for storage, adjoint in (("bf16", False), ("bf16", True), ("fp32", True))
    ]


# ---- launch ------------------------------------------------------------------------


def store_operands(cell: Cell, states: torch.Tensor, chunk: int, first: int, operands: torch.Tensor) -> None:
    """Store in operands [steps, parts, R, D] what the weight multiplies in so many steps of every chunk, from its step `first`
    on, where states [steps, R, D], contiguous and in float32, are those before them."""
    (steps, R, D), (B, T, _) = states.shape, cell.shape
    block = min(1024, next_power_of_2(D))
    slope = cell.inflow if cell.slope is None else cell.slope
    launch(
        operand_kernel, (R, cdiv(D, block), steps), states.device,
        cell.inflow, slope, states, operands, first, R, B, T, chunk, D, *cell.inflow.stride(), *slope.stride(),
        ADJOINT=cell.adjoint, PARTS=operands.shape[1], BLOCK=block,
    )  # fmt: skip
