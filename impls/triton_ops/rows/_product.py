"""What kernels share that take many rows of a recurrence through time: W times all rows at once, and waiting for each other.

Parallel    one program per tile of rows and output channels and share of the channels that are summed over, all resident at
            once; barriers of those that share rows. A product fills the registers, so it goes through memory to what
            follows it: of a tile's rows each of its programs sums up some, in slices
Memory      W and the operand, in parts, are read from L2, which limits it: so programs share a large tile's sum rather than
            having small tiles of their own
Precision   the operand is made of two or three bfloat16 parts, and so is a float32 weight; tensor cores multiply them and sum
            in float32 (_parts.py)
"""

import triton
import triton.language as tl

from .._parts import split

# Of which one kernel serves any: none is compiled for numbers that 16 divides, or for 1.
COUNTS = ("first", "start", "stop", "steps", "stored_steps", "last", "R", "B", "T", "chunk")


@triton.jit
def barrier(counter_ptr, target):
    """Wait until programs have arrived so often that the counter, which only grows, stands at `target`."""
    tl.debug_barrier()
    tl.atomic_add(counter_ptr, 1, sem="release")
    while tl.atomic_add(counter_ptr, 0, sem="acquire") < target:
        pass
    tl.debug_barrier()


@triton.jit
def slice_of(low, d, R, B, chunk, D, SLICE: tl.constexpr):
    """The rows from `low` on, the batch row of each, the first step of its chunk, the places of its channels in [R, D], and which
    of those there are."""
    row = low + tl.arange(0, SLICE)
    tile, known = (row * D)[:, None] + d[None, :], (row < R)[:, None] & (d < D)[None, :]
    return row, (row % B).to(tl.int64), (row // B) * chunk, tile, known


@triton.jit
def publish(operand_ptr, x, tile, width, known, PARTS: tl.constexpr):
    """Store the parts of an operand, `width` elements apart, the largest first."""
    parts = split(x, PARTS, operand_ptr.dtype.element_ty)
    for part in tl.static_range(PARTS):
        tl.store(operand_ptr + part * width + tile, parts[part], mask=known)


@triton.jit
def load_tile(pointer, batch, time, d, stride_b, stride_t, stride_d, inside):
    """A stream at the time of each row, [rows, channels]."""
    row = batch * stride_b + time.to(tl.int64) * stride_t
    return tl.load(pointer + row[:, None] + d[None, :] * stride_d, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def load_part(tile, part, rows, columns, EVEN_D: tl.constexpr, CACHE: tl.constexpr):
    """Some rows and columns of one part of a matrix."""
    if EVEN_D:
        return tl.load(tile + part, mask=rows, other=0.0, cache_modifier=CACHE)
    else:
        return tl.load(tile + part, mask=rows & columns, other=0.0, cache_modifier=CACHE)


@triton.jit
def own_rows(BLOCK_R: tl.constexpr, SPLITS: tl.constexpr):
    """The first of the rows of its tile that this program sums up, and the first beyond them."""
    first = tl.program_id(1) * BLOCK_R + tl.program_id(2) * (BLOCK_R // SPLITS)
    return first, first + BLOCK_R // SPLITS


@triton.jit
def multiply_rows(product_ptr, operand_ptr, W_ptr, R, D, W_stride_part, W_stride_i, W_stride_k,
                  PARTS: tl.constexpr, W_PARTS: tl.constexpr, EVEN_D: tl.constexpr, SPLITS: tl.constexpr,
                  BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_K: tl.constexpr, STAGES: tl.constexpr):  # fmt: skip
    """Store this program's share of W times the operand, [rows, channels] of [SPLITS, R, D]: of the products of their parts,
    which lie one after another, the largest."""
    r = tl.program_id(1) * BLOCK_R + tl.arange(0, BLOCK_R)
    d = tl.program_id(0) * BLOCK_D + tl.arange(0, BLOCK_D)
    k = tl.arange(0, BLOCK_K)
    part, known = R * D, (r < R)[:, None]
    count = D
    if SPLITS > 1:
        share = tl.cdiv(D, SPLITS * BLOCK_K) * BLOCK_K
        first = tl.program_id(2) * share
        operand_ptr += first
        W_ptr += first * W_stride_k
        count = tl.minimum(D - first, share)
    found = tl.zeros((BLOCK_R, BLOCK_D), tl.float32)
    for start in tl.range(0, count, BLOCK_K, num_stages=STAGES):
        within = start + k < count
        x_tile = operand_ptr + (r * D)[:, None] + (start + k)[None, :]
        W_tile = W_ptr + (d * W_stride_i)[None, :] + ((start + k) * W_stride_k)[:, None]
        W = load_part(W_tile, 0, (d < D)[None, :], within[:, None], EVEN_D, "")
        x = load_part(x_tile, 0, known, within[None, :], EVEN_D, ".cg")
        found = tl.dot(x, W, found, input_precision="ieee")
        if PARTS > 1:
            x_second = load_part(x_tile, part, known, within[None, :], EVEN_D, ".cg")
            found = tl.dot(x_second, W, found, input_precision="ieee")
        if PARTS > 2:
            x_third = load_part(x_tile, 2 * part, known, within[None, :], EVEN_D, ".cg")
            found = tl.dot(x_third, W, found, input_precision="ieee")
        if W_PARTS > 1:
            W_second = load_part(W_tile, W_stride_part, (d < D)[None, :], within[:, None], EVEN_D, "")
            found = tl.dot(x, W_second, found, input_precision="ieee")
            if W_PARTS > 2:
                found = tl.dot(x_second, W_second, found, input_precision="ieee")
        if W_PARTS > 2:
            W_third = load_part(W_tile, 2 * W_stride_part, (d < D)[None, :], within[:, None], EVEN_D, "")
            found = tl.dot(x, W_third, found, input_precision="ieee")
    share_ptr = product_ptr + tl.program_id(2) * R * D
    tl.store(share_ptr + (r * D)[:, None] + d[None, :], found, mask=known & (d < D)[None, :])


@triton.jit
def complete(counter_ptr, steps, SPLITS: tl.constexpr):
    """Wait until all shares of this tile's product are stored, for the time of number `steps`, from 1 on. The tiles' counters
    lie behind one for every row of tiles."""
    if SPLITS == 1:
        tl.debug_barrier()
    else:
        tile = tl.num_programs(1) + tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
        barrier(counter_ptr + tile, steps * SPLITS)


@triton.jit
def load_product(product_ptr, tile, width, known, SPLITS: tl.constexpr):
    """The sum of all shares, in their order."""
    product = tl.load(product_ptr + tile, mask=known, other=0.0, cache_modifier=".cg")
    for share in tl.static_range(1, SPLITS):
        product += tl.load(product_ptr + share * width + tile, mask=known, other=0.0, cache_modifier=".cg")
    return product


@triton.jit
def meet(counter_ptr, times, SPLITS: tl.constexpr):
    """Wait for all programs that share this program's rows, for the time of number `times`, from 1 on."""
    barrier(counter_ptr + tl.program_id(1), times * tl.num_programs(0) * SPLITS)
