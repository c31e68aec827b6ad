"""What do the recurrences share that are walked, all steps in one launch, by programs that each own some output channels?

Parallel    all programs are resident at once. Those of a team share the channels of one batch row after another; as many
            rows are walked side by side as there are teams
Memory      a program keeps its first rows of W in registers and reads the others through its L1 cache, which holds them
            from step to step: after the first step W moves over no bus, unless it is larger than all caches. The operand
            of the next step passes through memory (_exchange.py).
Precision   state and operand in float32 (float64 for float64), W in its storage dtype; products are multiplied and summed
            in float32 (float64), without tensor cores
"""

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from ._device import reduce_sum
from ._launch import INTERPRETED, device_function, processors_of

# ---- device code -------------------------------------------------------------------


@device_function
def row_of_team(turn, B, D: tl.constexpr, ONE_TEAM: tl.constexpr):
    """The batch row that this program's team walks in this turn, and its channels: none, if there is no row left."""
    b = tl.full((), 0, tl.int64) + turn  # a batch may hold more than 2^31 numbers
    if ONE_TEAM:
        return b, D
    else:
        b = b * tl.num_programs(1) + tl.program_id(1)
        return b, tl.where(b < B, D, 0)


@device_function
def load_step(pointer, own, stride_d, inside, dtype: tl.constexpr):
    return tl.load(pointer + own * stride_d, mask=inside, other=0.0).to(dtype)


@device_function
def load_rows(W_ptr, i, k, D: tl.constexpr, IN_L1: tl.constexpr):
    """Rows i [ROWS] of W, all columns."""
    tile = W_ptr + i.to(tl.int64)[:, None] * D + k[None, :]
    inside = (i < D)[:, None] & (k < D)[None, :]
    return tl.load(tile, mask=inside, other=0.0, cache_modifier=".ca" if IN_L1 else ".cg")


@device_function
def held_rows(W_ptr, first, row, k, D: tl.constexpr, HELD: tl.constexpr):
    """What a program keeps of W for all steps: its first rows, if any."""
    if HELD:
        return load_rows(W_ptr, first + row, k, D, True)
    else:
        return row


@device_function
def times(
    x, held, W_ptr, first, row, k, j, D: tl.constexpr,
    HELD: tl.constexpr, CACHED: tl.constexpr, GROUPS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """W times x [BLOCK_K] for the rows from `first` on, as [GROUPS, ROWS]."""
    place = tl.arange(0, GROUPS)[:, None]
    Wx = tl.zeros((GROUPS, ROWS), x.dtype)
    for group in tl.static_range(GROUPS):
        if group < HELD:
            W = held
        else:
            # j >> 30 is 0, but no constant: or the compiler would load all of W before the loop, and spill it.
            i = first + group * ROWS + row + (j >> 30)
            W = load_rows(W_ptr, i, k, D, group < CACHED)
        Wx = tl.where(place == group, reduce_sum(W.to(x.dtype) * x[None, :], axis=1)[None, :], Wx)
    return Wx


# ---- launch ------------------------------------------------------------------------

REGISTERS = 65536  # bytes of W that a program keeps in registers
L1 = 196608  # and in L1
MOST_AT_ONCE = 32  # rows that are multiplied at once
OPERAND = 16384  # bytes; a larger operand needs the registers itself


class Division(NamedTuple):
    """Programs [of a team, teams], how many batch rows a team walks, and the options of the launch."""

    grid: tuple[int, int]
    turns: int
    options: dict[str, Any]


def division(B: int, D: int, itemsize: int, processors: int) -> Division:
    """How W and the batch are divided. A program with more rows of W makes room for more teams; it gets them as long as
    they stay in its caches: to be read from L2 again they would cost more than the other batch rows."""
    block = triton.next_power_of_2(D)
    row = block * itemsize
    rows = triton.next_power_of_2(triton.cdiv(D, processors))  # of a program, if there is one team
    while processors // triton.cdiv(D, rows) < B and rows < block and 2 * rows * row <= REGISTERS + L1:
        rows *= 2
    programs = triton.cdiv(D, rows)
    teams = min(B, max(1, processors // programs))
    at_once = min(rows, MOST_AT_ONCE, max(1, REGISTERS // row))
    group = at_once * row
    held = int(block * max(4, itemsize) <= OPERAND)
    warps = 4 if rows * row < REGISTERS else 8 if block <= 4096 else 16
    cached = held + L1 // group
    options = {"ROWS": at_once, "GROUPS": rows // at_once, "HELD": held, "CACHED": cached, "D": D, "BLOCK_K": block}
    return Division((programs, teams), triton.cdiv(B, teams), {**options, "ONE_TEAM": teams == 1, "num_warps": warps})


def states_before(h0: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """The state before every step [B, T, D], given that before the first [B, D] and those after each."""
    return torch.cat([h0[:, None].to(h.dtype), h[:, :-1]], dim=1)[:, : h.shape[1]]


def divided(B: int, W: torch.Tensor) -> Division:
    """The division for this device, with what it takes for all programs to be resident at once."""
    D = W.shape[0]
    if INTERPRETED:  # programs run one after another: only a team of one does not wait for others
        block, teams = triton.next_power_of_2(D), min(B, 2)
        options = {"ROWS": block, "GROUPS": 1, "HELD": 1, "CACHED": 1, "D": D, "BLOCK_K": block}
        return Division((1, teams), triton.cdiv(B, teams), {**options, "ONE_TEAM": teams == 1})
    found = division(B, D, W.element_size(), processors_of(W.device))
    return found._replace(options={**found.options, "launch_cooperative_grid": True})
