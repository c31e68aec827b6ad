"""A norm over channels of which each program has some: every program publishes sums of its own, and reads those of all.

Precision   float32. What a layer norm needs, the sum and the squares of what is left without the mean, is found of each tile
            and put together; no large squares are subtracted. All read the same numbers and add them in the same order.
"""

import triton
import triton.language as tl

# ---- device code -------------------------------------------------------------------


@triton.jit
def store_sum(sums_ptr, which, sums, r, R):
    """One number for each row, of this program's channels; sums [2, programs, R]."""
    place = which * tl.num_programs(0) + tl.program_id(0)
    tl.store(sums_ptr + place * R + r, sums, mask=r < R)


@triton.jit
def load_sums(sums_ptr, which, r, R, PROGRAMS: tl.constexpr):
    """What all programs have stored, [PROGRAMS, rows]."""
    p = tl.arange(0, PROGRAMS)
    place = which * tl.num_programs(0) + p
    inside = (p < tl.num_programs(0))[:, None] & (r < R)[None, :]
    return tl.load(sums_ptr + (place * R)[:, None] + r[None, :], mask=inside, other=0.0, cache_modifier=".cg")


@triton.jit
def store_moments(sums_ptr, u, inside, r, R, D, NORM: tl.constexpr):
    """Of u [rows, channels], 0 outside."""
    if NORM == "rms":
        store_sum(sums_ptr, 0, tl.sum(u * u, axis=1), r, R)
    if NORM == "layer":
        BLOCK_D: tl.constexpr = u.shape[1]
        total = tl.sum(u, axis=1)
        here = tl.minimum(D - tl.program_id(0) * BLOCK_D, BLOCK_D)
        left = tl.where(inside, u - (total / here)[:, None], 0.0)
        store_sum(sums_ptr, 0, total, r, R)
        store_sum(sums_ptr, 1, tl.sum(left * left, axis=1), r, R)


@triton.jit
def load_moments(sums_ptr, r, R, D, NORM: tl.constexpr, eps, BLOCK_D: tl.constexpr, PROGRAMS: tl.constexpr):
    """The mean that a layer norm takes off, and one over the deviation, of every row [rows, 1]."""
    mean = tl.zeros((r.shape[0],), tl.float32)
    scale = tl.full((r.shape[0],), 1.0, tl.float32)
    if NORM == "rms":
        scale = tl.rsqrt(tl.sum(load_sums(sums_ptr, 0, r, R, PROGRAMS), axis=0) / D + eps)
    if NORM == "layer":
        totals = load_sums(sums_ptr, 0, r, R, PROGRAMS)
        squares = load_sums(sums_ptr, 1, r, R, PROGRAMS)
        mean = tl.sum(totals, axis=0) / D
        counts = tl.minimum(tl.maximum(D - tl.arange(0, PROGRAMS) * BLOCK_D, 0), BLOCK_D).to(tl.float32)[:, None]
        off = totals / tl.maximum(counts, 1.0) - mean[None, :]
        scale = tl.rsqrt(tl.sum(squares + counts * off * off, axis=0) / D + eps)
    return mean[:, None], scale[:, None]


@triton.jit
def store_averages(sums_ptr, pull, standard, r, R, NORM: tl.constexpr):
    """What the norm's adjoint needs of pull and standard [rows, channels], 0 outside."""
    if NORM != "none":
        store_sum(sums_ptr, 0, tl.sum(pull * standard, axis=1), r, R)
    if NORM == "layer":
        store_sum(sums_ptr, 1, tl.sum(pull, axis=1), r, R)


@triton.jit
def load_averages(sums_ptr, r, R, D, NORM: tl.constexpr, PROGRAMS: tl.constexpr):
    """What it takes off, along the standardized mix and from all channels, of every row [rows, 1]."""
    along = tl.zeros((r.shape[0],), tl.float32)
    level = tl.zeros((r.shape[0],), tl.float32)
    if NORM != "none":
        along = tl.sum(load_sums(sums_ptr, 0, r, R, PROGRAMS), axis=0) / D
    if NORM == "layer":
        level = tl.sum(load_sums(sums_ptr, 1, r, R, PROGRAMS), axis=0) / D
    return along[:, None], level[:, None]
