"""What the solver asks of all chunks at once: their linear maps with the gate frozen, a scan over them, and how their
borders fit.

Parallel    one program per tile of chunks or channels, or per row, chunk c of batch row b being row c B + b
Memory      freezing reads inflow and gamma once; the others touch one state of each chunk
Precision   float32
"""

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl

from .._compile import CompileSpec, compile_spec
from .._device import same_bits, sigmoid
from .._launch import cdiv, launch, next_power_of_2
from ..rows._cell import Cell

# ---- device code -------------------------------------------------------------------


@triton.jit
def then(a_first, b_first, a_second, b_second):
    """The affine map x -> a x + b of the first, followed by that of the second."""
    return a_second * a_first, a_second * b_first + b_second


@triton.jit(do_not_specialize=["skipped", "R", "B", "T", "chunk"])
def freeze_kernel(
    inflow_ptr, gamma_ptr, bias_ptr, factor_ptr, value_ptr, skipped, R, B, T, chunk, D,
    inflow_stride_b, inflow_stride_t, inflow_stride_d, gamma_stride_b, gamma_stride_t, gamma_stride_d,
    ADJOINT: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """What the `skipped` first steps of each chunk, and then all of them, make of its state, if the gate were sigmoid(bias) at
    every step; of an adjoint, if nothing passed through the gate. factor and value are [2, R, D]."""
    r = tl.program_id(1)
    d = tl.program_id(0) * BLOCK_D + tl.arange(0, BLOCK_D)
    b, begin = (r % B).to(tl.int64), (r // B) * chunk
    gate = sigmoid(tl.load(bias_ptr + d, mask=d < D, other=0.0).to(tl.float32))
    factor = tl.full((BLOCK_D,), 1.0, tl.float32)
    value = tl.zeros((BLOCK_D,), tl.float32)
    for part in tl.static_range(2):
        low, high = begin + part * skipped, begin + (chunk if part else skipped)
        end = tl.minimum(high, T)
        for start in range(low, end, BLOCK_T):
            t = (start + tl.arange(0, BLOCK_T)).to(tl.int64)
            inside = (t < end)[:, None] & (d < D)[None, :]
            inflow_tile = inflow_ptr + b * inflow_stride_b + t[:, None] * inflow_stride_t + d[None, :] * inflow_stride_d
            gamma_tile = gamma_ptr + b * gamma_stride_b + t[:, None] * gamma_stride_t + d[None, :] * gamma_stride_d
            inflow = tl.load(inflow_tile, mask=inside, other=0.0).to(tl.float32)
            gamma = tl.load(gamma_tile, mask=inside, other=1.0).to(tl.float32)
            inflow *= gamma if ADJOINT else gate[None, :]
            factors, values = tl.reduce((gamma, inflow), 0, then)
            value = factors * value + values
            factor = factors * factor
        at = (part * R + r).to(tl.int64) * D + d
        tl.store(factor_ptr + at, factor, mask=d < D)
        tl.store(value_ptr + at, value, mask=d < D)


@triton.jit
def chain_kernel(factor_ptr, value_ptr, initial_ptr, before_ptr, P, B, D, BLOCK_P: tl.constexpr, BLOCK_D: tl.constexpr):
    """x_{c+1} = factor_c x_c + value_c, x_0 the initial; before[c] = x_c."""
    b = tl.program_id(1)
    d = tl.program_id(0) * BLOCK_D + tl.arange(0, BLOCK_D)
    x = tl.load(initial_ptr + b * D + d, mask=d < D, other=0.0)
    tl.store(before_ptr + b.to(tl.int64) * D + d, x, mask=d < D)
    for start in range(0, P, BLOCK_P):
        c = start + tl.arange(0, BLOCK_P)
        tile = (c * B + b).to(tl.int64)[:, None] * D + d[None, :]
        inside = (c < P)[:, None] & (d < D)[None, :]
        factor = tl.load(factor_ptr + tile, mask=inside, other=1.0)
        value = tl.load(value_ptr + tile, mask=inside, other=0.0)
        factors, values = tl.associative_scan((factor, value), 0, then)
        states = factors * x[None, :] + values
        tl.store(before_ptr + tile + B * D, states, mask=inside & (c + 1 < P)[:, None])
        x = tl.sum(tl.where((c == start + BLOCK_P - 1)[:, None], states, 0.0), axis=0)


@triton.jit
def border_kernel(
    initial_ptr, carry_ptr, live_ptr, ends_ptr, begun_ptr, due_ptr, mismatch_ptr, found_ptr, B, D, smallest,
    BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Where each row is due to begin, and by how much it began elsewhere; rows that live have new ends.

    found: the bits of the largest mismatch beside the row's largest state, the first row that has one, and how many."""
    r = tl.program_id(0).to(tl.int64)
    before = tl.maximum(r - B, 0)
    moved, own_moved = tl.load(live_ptr + before) != 0, tl.load(live_ptr + r) != 0
    wrong, largest, size, broken = 0, 0.0, 0.0, 0
    for start in range(0, D, BLOCK_D):
        d = start + tl.arange(0, BLOCK_D)
        inside = d < D
        at = r * D + d
        if r < B:
            due = tl.load(initial_ptr + at, mask=inside, other=0.0)
        elif moved:
            due = tl.load(carry_ptr + before * D + d, mask=inside, other=0.0)
        else:
            due = tl.load(ends_ptr + before * D + d, mask=inside, other=0.0)
        if own_moved:  # its successor reads the same, before or after this
            tl.store(ends_ptr + at, tl.load(carry_ptr + at, mask=inside, other=0.0), mask=inside)
        begun = tl.load(begun_ptr + at, mask=inside, other=0.0)
        mismatch = due - begun
        differs = ~same_bits(due, begun)
        tl.store(due_ptr + at, due, mask=inside)
        tl.store(mismatch_ptr + at, mismatch, mask=inside)
        wrong = tl.maximum(wrong, tl.max(differs.to(tl.int32), axis=0))
        broken = tl.maximum(broken, tl.max((differs & (mismatch != mismatch)).to(tl.int32), axis=0))
        largest = tl.maximum(largest, tl.max(tl.where(differs, tl.abs(mismatch), 0.0), axis=0))
        size = tl.maximum(size, tl.max(tl.abs(due), axis=0))
    if wrong != 0:
        share = tl.maximum(largest / tl.maximum(size, smallest), smallest)
        share = tl.where((broken != 0) | (share != share), float("inf"), share)
        tl.atomic_max(
            found_ptr, share.to(tl.int32, bitcast=True)
        )  # floats that are not negative are ordered as their bits
        tl.atomic_min(found_ptr + 1, r.to(tl.int32))
        tl.atomic_add(found_ptr + 2, 1)


@triton.jit
def correct_kernel(due_ptr, carried_ptr, begun_ptr, carry_ptr, live_ptr, D, unit, BLOCK_D: tl.constexpr):
    """Begin where it is due and what is carried there; rows that did already live no longer."""
    r = tl.program_id(0).to(tl.int64)
    moves = 0
    for start in range(0, D, BLOCK_D):
        d = start + tl.arange(0, BLOCK_D)
        inside = d < D
        at = r * D + d
        due = tl.load(due_ptr + at, mask=inside, other=0.0)
        carried = tl.load(carried_ptr + at, mask=inside, other=0.0)
        begun = tl.load(begun_ptr + at, mask=inside, other=0.0)
        matters = (tl.abs(carried) > unit * tl.abs(due)) & (tl.abs(carried) < float("inf"))
        begin = tl.where(matters, due + carried, due)
        differs = ~same_bits(begin, begun)
        moves = tl.maximum(moves, tl.max(differs.to(tl.int32), axis=0))
        tl.store(begun_ptr + at, begin, mask=inside)
        tl.store(carry_ptr + at, begin, mask=inside)
    tl.store(live_ptr + r, moves)


def compile_specs() -> list[CompileSpec]:
    counts, shares = {"live_ptr": "*i32", "found_ptr": "*i32"}, {"smallest": "fp32", "unit": "fp32"}
    specs = [
        compile_spec(chain_kernel, "fp32", BLOCK_P=256, BLOCK_D=16),
        compile_spec(border_kernel, "fp32", types=counts | shares, BLOCK_D=1024),
        compile_spec(correct_kernel, "fp32", types=counts | shares, BLOCK_D=1024),
    ]
    for storage in ("fp32", "bf16"):
        options: dict[str, Any] = {"num_warps": 1, "ADJOINT": False, "BLOCK_T": 8, "BLOCK_D": 256}
        specs.append(compile_spec(freeze_kernel, storage, ("factor_ptr", "value_ptr"), **options))
    return specs


# ---- launch ------------------------------------------------------------------------

SMALLEST = torch.finfo(torch.float32).tiny
UNIT = 2.0**-24


def freeze(cell: Cell, chunk: int, skipped: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Factor and value [2, chunks, B, D] of the linear maps of the `skipped` first steps of every chunk, and of all its steps."""
    B, T, D = cell.shape
    count = cdiv(T, chunk)
    factor, value = (torch.empty((2, count, B, D), dtype=torch.float32, device=cell.device) for _ in range(2))
    block = min(256, next_power_of_2(D))
    launch(
        freeze_kernel, (cdiv(D, block), count * B), cell.device,
        cell.inflow, cell.gamma, cell.bias, factor, value, skipped, count * B, B, T, chunk, D,
        *cell.inflow.stride(), *cell.gamma.stride(), ADJOINT=cell.adjoint, BLOCK_T=8, BLOCK_D=block, num_warps=1,
    )  # fmt: skip
    return factor, value


def chain(factor: torch.Tensor, value: torch.Tensor, initial: torch.Tensor) -> torch.Tensor:
    """What the maps of the chunks before it make of the initial state [B, D], before every chunk [P, B, D]."""
    P, B, D = factor.shape
    before = torch.empty_like(factor)
    block = min(16, next_power_of_2(D))
    launch(
        chain_kernel, (cdiv(D, block), B), factor.device,
        factor, value, initial, before, P, B, D, BLOCK_P=min(256, next_power_of_2(P)), BLOCK_D=block,
    )  # fmt: skip
    return before


@dataclass(frozen=True)
class Mismatch:
    """How the borders of chunks fit: the largest mismatch beside the state, the first row that has one, how many have."""

    size: float
    first: int
    rows: int


class Borders:
    """Where the chunks of a solution began and ended, [chunks, B, D], and where they are due to begin."""

    def __init__(self, initial: torch.Tensor, begun: torch.Tensor, factor: torch.Tensor):
        self.initial, self.begun, self.factor = initial, begun.contiguous(), factor
        self.ends, self.due, self.mismatch = (torch.empty_like(self.begun) for _ in range(3))

    def _over_rows(self, kernel, *arguments) -> None:
        count, B, D = self.begun.shape
        launch(kernel, (count * B,), self.begun.device, *arguments, BLOCK_D=min(1024, next_power_of_2(D)))

    def compare(self, carry: torch.Tensor, live: torch.Tensor) -> Mismatch:
        """The live rows have ended at `carry`. Do all begin where those before them end?"""
        count, B, D = self.begun.shape
        found = torch.tensor([0, count * B, 0], dtype=torch.int32).to(carry.device, non_blocking=True)
        self._over_rows(
            border_kernel,
            self.initial,
            carry,
            live,
            self.ends,
            self.begun,
            self.due,
            self.mismatch,
            found,
            B,
            D,
            SMALLEST,
        )
        summary = found.cpu()
        return Mismatch(summary[:1].view(torch.float32).item(), int(summary[1]), int(summary[2]))

    def correct(self, carry: torch.Tensor, live: torch.Tensor, ends_move: bool) -> None:
        """Let every row begin where it is due; if the rows' ends move, where it is due once those before it are corrected, to
        first order; roundings are left out. Then those live that began elsewhere."""
        D = self.begun.shape[2]
        carried = torch.zeros_like(self.mismatch)
        if ends_move:
            carried = chain(self.factor, self.factor * self.mismatch, torch.zeros_like(self.initial))
        self._over_rows(correct_kernel, self.due, carried, self.begun, carry, live, D, UNIT)
