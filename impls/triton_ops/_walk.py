"""What do the recurrences share that are walked, all steps in one launch, by programs that each own some output channels?

Parallel    all programs are resident at once. Those of a team share the channels of one batch row after another; as many
            rows are walked side by side as there are teams, times those that a program takes abreast: each of its rows of
            W, once read, multiplies all of these
Memory      a program keeps some of its rows of W in registers and reads the others through its L1 cache, which holds them
            from step to step: after the first step W moves over no bus, unless it is larger than all caches. The operand
            of the next step passes through memory (_exchange.py).
Precision   state and operand in float32 (float64 for float64), W in its storage dtype; products are multiplied and summed
            in float32 (float64), without tensor cores
"""

from typing import Any, NamedTuple

import torch
import triton.language as tl

from ._device import reduce_sum
from ._launch import INTERPRETED, cdiv, device_function, next_power_of_2, processors_of

# ---- device code -------------------------------------------------------------------


@device_function
def rows_of_team(turn, ABREAST: tl.constexpr):
    """The first of the batch rows that this program's team walks in this turn, and all; there may be fewer left."""
    begin = tl.full((), 0, tl.int64) + turn  # a batch may hold more than 2^31 numbers
    begin = (begin * tl.num_programs(1) + tl.program_id(1)) * ABREAST
    return begin, begin + tl.arange(0, ABREAST)


@device_function
def within(own, b, B, width, FULL: tl.constexpr):
    """Which of the first `width` channels of which batch rows there are, [channels, rows]; FULL: all these rows."""
    inside = (own < width)[:, None]
    if FULL:
        return inside
    else:
        return inside & (b < B)[None, :]


@device_function
def placed(value, r, rows, ABREAST: tl.constexpr):
    """rows [1, ABREAST] with this value for row r."""
    return tl.where(tl.arange(0, ABREAST)[None, :] == r, value, rows)


@device_function
def load_step(pointers, own, stride_d, inside, dtype: tl.constexpr):
    """A step of some batch rows, [channels, rows], given where each begins."""
    return tl.load(pointers[None, :] + own[:, None] * stride_d, mask=inside, other=0.0).to(dtype)


@device_function
def load_group(
    W_ptr, first, group, k, D: tl.constexpr, GROUPS: tl.constexpr, ROWS: tl.constexpr, SUMMED: tl.constexpr,
    IN_L1: tl.constexpr,
):  # fmt: skip
    """A group of rows [ROWS, BLOCK_K] of a program that owns those from `first` on: every SUMMED-th of so many groups."""
    row = group // SUMMED * (SUMMED * ROWS) + tl.arange(0, ROWS) * SUMMED + group % SUMMED
    # One address and constants: a load adds those itself.
    tile = (W_ptr + first.to(tl.int64) * D) + (row[:, None] * D + k[None, :])
    modifier: tl.constexpr = ".ca" if IN_L1 else ".cg"
    if D % (GROUPS * ROWS) == 0 and k.shape[0] == D:
        return tl.load(tile, cache_modifier=modifier)
    else:
        inside = (first + row < D)[:, None] & (k < D)[None, :]
        return tl.load(tile, mask=inside, other=0.0, cache_modifier=modifier)


@device_function
def held_groups(
    W_ptr, first, k, D: tl.constexpr, HELD: tl.constexpr, GROUPS: tl.constexpr, ROWS: tl.constexpr, SUMMED: tl.constexpr
):
    """What a program keeps of W for all steps: its first groups of rows, if any."""
    held = ()
    for group in tl.static_range(HELD):
        held = held + (load_group(W_ptr, first, group, k, D, GROUPS, ROWS, SUMMED, True),)
    return held


@device_function
def joined(xs, N: tl.constexpr):
    """N tensors, a power of 2, as one with more dimensions of size 2, which count them; no number changes its thread."""
    if N == 1:
        return xs[0]
    else:
        pairs = ()
        for i in tl.static_range(N // 2):
            pairs = pairs + (tl.join(xs[i], xs[i + N // 2]),)
        return joined(pairs, N // 2)


@device_function
def times(
    xs, held, W_ptr, first, k, nought, D: tl.constexpr, HELD: tl.constexpr, CACHED: tl.constexpr,
    GROUPS: tl.constexpr, ROWS: tl.constexpr, SUMMED: tl.constexpr, ABREAST: tl.constexpr,
):  # fmt: skip
    """W times each x [BLOCK_K] for the rows from `first` on, as [GROUPS * ROWS, ABREAST].

    SUMMED groups are summed over all threads together: to wait for each other costs them as much as such a sum."""
    place = tl.arange(0, GROUPS // SUMMED)[:, None, None]
    Wx = tl.zeros((GROUPS // SUMMED, SUMMED * ROWS, ABREAST), xs[0].dtype)
    products = ()
    for group in tl.static_range(GROUPS):
        # nought is 0, but no constant: or the compiler would load all of W before the loop, and spill it.
        later = first + nought
        W = held[group] if group < HELD else load_group(W_ptr, later, group, k, D, GROUPS, ROWS, SUMMED, group < CACHED)
        for r in tl.static_range(ABREAST):
            products = products + (W.to(xs[r].dtype) * xs[r][None, :],)
        if group % SUMMED == SUMMED - 1:
            found = reduce_sum(joined(products, SUMMED * ABREAST), axis=1)
            # Expanded last: so the compiler deals Wx, and all that meets it, to different threads again.
            found = tl.reshape(found, (SUMMED * ROWS, ABREAST))[None, :, :]
            Wx = tl.where(place == group // SUMMED, found, Wx)
            products = ()
    return tl.reshape(Wx, (GROUPS * ROWS, ABREAST))


# ---- launch ------------------------------------------------------------------------

REGISTERS = 65536  # bytes of W that a program keeps in registers
TILE = 16384  # multiplied at once
L1 = 196608  # and in L1
ROOM = 114688  # in registers for that and the operands, all channels of some batch rows
MOST_ABREAST = 4  # more batch rows save little more of the work on W
MOST_ROWS_AT_ONCE = 16  # of W, in one product
MOST_SUMS = 8  # that are found at once


class Division(NamedTuple):
    """Programs [of a team, teams], how often a team takes other batch rows in a step, and the options of the launch."""

    grid: tuple[int, int]
    turns: int
    options: dict[str, Any]


def division(B: int, D: int, itemsize: int, processors: int, operands: int = 1, vectors: int = 0) -> Division:
    """How W and the batch are divided, where a program needs all channels of so many operands of each batch row at once,
    and of so many vectors of all.

    A program with more rows of W makes room for more teams; it gets them as long as they stay in its caches: to be read from
    L2 again they would cost more than the other batch rows.
    """
    block = next_power_of_2(D)
    row, operand = block * itemsize, block * max(4, itemsize)
    abreast = power_of_2_within((ROOM - max(TILE, row) - vectors * operand) // (operands * operand))
    abreast = min(next_power_of_2(B), MOST_ABREAST, abreast)
    rows = next_power_of_2(cdiv(D, processors))  # of a program, if there is one team
    while processors // cdiv(D, rows) * abreast < B and rows < block and 2 * rows * row <= REGISTERS + L1:
        rows *= 2
    programs = cdiv(D, rows)
    teams = min(cdiv(B, abreast), max(1, processors // programs))
    turns = cdiv(B, teams * abreast)
    at_once = max(1, min(rows // 2, MOST_ROWS_AT_ONCE, TILE // row))
    groups, group = rows // at_once, at_once * row
    registers = min(REGISTERS, power_of_2_within(ROOM - (abreast * operands + vectors) * operand))
    held = min(groups, registers // group) if operand <= TILE else 0
    options = {
        "ROWS": at_once,
        "GROUPS": groups,
        "SUMMED": min(max(1, groups // 2), power_of_2_within(MOST_SUMS // (at_once * abreast))),
        "HELD": held,
        "CACHED": held + L1 // group,
        "ABREAST": abreast,
        "FULL": teams * abreast * turns == B,
        "D": D,
        "BLOCK_K": block,
        "num_warps": 4 if rows * row < REGISTERS else 8 if block <= 4096 else 16,
    }
    return Division((programs, teams), turns, options)


def power_of_2_within(n: int) -> int:
    """The largest power of 2 that is no larger than n, or 1."""
    return 1 << max(n, 1).bit_length() - 1


def states_before(h0: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """The state before every step [B, T, D], given that before the first [B, D] and those after each."""
    return torch.cat([h0[:, None].to(h.dtype), h[:, :-1]], dim=1)[:, : h.shape[1]]


def divided(B: int, W: torch.Tensor, **needed: int) -> Division:
    """The division for this device, with what it takes for all programs to be resident at once."""
    D = W.shape[0]
    if INTERPRETED:  # programs run one after another: only a team of one does not wait for others
        block, abreast, teams = next_power_of_2(D), min(B, 2), min(cdiv(B, 2), 2)
        turns = cdiv(B, teams * abreast)
        groups = min(4, block)
        options = {
            "ROWS": block // groups,
            "GROUPS": groups,
            "SUMMED": min(2, groups),
            "HELD": 1,
            "CACHED": 2,
            "ABREAST": abreast,
        }
        options |= {"FULL": teams * abreast * turns == B, "D": D, "BLOCK_K": block}
        return Division((1, teams), turns, options)
    found = division(B, D, W.element_size(), processors_of(W.device), **needed)
    return found._replace(options={**found.options, "launch_cooperative_grid": True})
