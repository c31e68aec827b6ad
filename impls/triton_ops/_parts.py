"""A float32 number as a sum of bfloat16 numbers, so that tensor cores multiply it.

A tensor core multiplies 16-bit numbers exactly and sums in float32, an order of magnitude faster than float32 numbers are
multiplied. So where one operand of a product is stored in bfloat16 and the other is computed, and therefore float32, the
computed one is split: x = high + middle + low, side by side in memory, and one product sums over all of them.

    two parts leave out at most 2^-17 of x, which is 128 u (u = 2^-24): each takes 8 bits, and rounding to nearest
              leaves one bit to the sign of the rest
    three     leave out nothing: 3 x 8 bits are float32's 24 (underflow apart: below 2^-110 the last part is subnormal)

How many are needed? A sum of n products in any order may err by n u of the sum of their sizes; that is what float32
arithmetic is granted. Two parts are taken where they use at most half of it, 128 u <= n u / 2, or a quarter where
something else needs a share too; three for shorter sums. The rest is for the sum itself. Assumed of a tensor core: it sums
16 products and what was summed before at once, cuts each at a quarter of an ulp (at most 17 u / 2 together) and the result
at an ulp (2 u), so it errs by at most 11 u of what is summed so far, n / 16 times; over terms of even size that is 0.34 n u.
The smallest parts come first in the sum, where what is summed so far is small: three parts sum as well as one.
"""

import torch
import triton
import triton.language as tl

from ._compile import CompileSpec, compile_spec
from ._launch import COMPILED, INTERPRETED, arithmetic_dtype, cdiv, device_function, launch
from ._matmul import full_precision, product

OF_TWO = 128  # what two parts leave out, in u
TWO_SUFFICE_FROM = 2 * OF_TWO  # terms of a sum that shares with nothing
BLOCK = 2048


def operand_dtype(storage: torch.dtype) -> torch.dtype:
    """In which dtype a computed operand meets stored ones: bfloat16 parts for bfloat16.

    Parts of a float16 lack the range: what is computed need not fit into it.
    """
    return torch.bfloat16 if storage == torch.bfloat16 else arithmetic_dtype(storage)


def parts_needed(storage: torch.dtype, terms: int, share: float = 0.5) -> int:
    """In how many parts the computed operand of a product that sums `terms` products is given, if they may use this share
    of what the sum is granted."""
    if operand_dtype(storage) != torch.bfloat16:
        return 1
    return 2 if terms * share >= OF_TWO else 3


def part_format(terms: int, share: float = 0.5) -> tuple[torch.dtype, int]:
    """In which dtype, and of how many parts, both operands of a product of float32 matrices are given."""
    if INTERPRETED:  # it cannot multiply bfloat16
        return torch.float32, 1
    return torch.bfloat16, parts_needed(torch.bfloat16, terms, share)


# ---- device code -------------------------------------------------------------------


@device_function
def nearest(x, dtype: tl.constexpr):
    """x in `dtype`, rounded to nearest even, which the interpreter does not do for bfloat16: it truncates."""
    if not COMPILED and dtype == tl.bfloat16:
        bits = x.to(tl.uint32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        x = bits.to(tl.float32, bitcast=True)
    return x.to(dtype)


@device_function
def high_part(x):
    """A float32 x as the nearest bfloat16 number, still in float32: of two, the larger. (A conversion and back would
    take the unit of the exponentials; a NaN may be lost here, but not in what is left of it.)"""
    bits = (x.to(tl.uint32, bitcast=True) + 0x8000) & 0xFFFF0000
    return bits.to(tl.float32, bitcast=True)


@device_function
def split(x, PARTS: tl.constexpr, dtype: tl.constexpr):
    """PARTS numbers of `dtype`, the largest first, whose sum is x as nearly as they can; each is what is left, rounded."""
    parts = ()
    for _ in tl.static_range(PARTS - 1):
        high = high_part(x)
        x = x - high
        parts = parts + (high.to(dtype),)
    return parts + (nearest(x, dtype),)


@device_function
def store_parts(ptr, x, width, PARTS: tl.constexpr, inside):
    """Store the parts of x `width` elements apart, the smallest at `ptr`."""
    parts = split(x, PARTS, ptr.dtype.element_ty)
    for i in tl.static_range(PARTS):
        tl.store(ptr + (PARTS - 1 - i) * width, parts[i], mask=inside)


@triton.jit
def split_kernel(x_ptr, parts_ptr, N, PARTS: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)  # [BLOCK]
    inside = i < N
    parts = split(tl.load(x_ptr + i, mask=inside, other=0.0), PARTS, parts_ptr.dtype.element_ty)
    for part in tl.static_range(PARTS):
        tl.store(parts_ptr + tl.full((), part, tl.int64) * N + i, parts[part], mask=inside)


def compile_specs() -> list[CompileSpec]:
    types = {"parts_ptr": "*bf16"}
    return [compile_spec(split_kernel, "fp32", types=types, PARTS=parts, BLOCK=BLOCK) for parts in (2, 3)]


# ---- launch ------------------------------------------------------------------------


def parts_of(x: torch.Tensor, parts: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    """x, float32 and finite, as the sum of [parts, *x.shape], the largest first."""
    if x.dtype == dtype and parts == 1:
        return x[None]
    found = x.new_empty((parts, *x.shape), dtype=dtype)
    if x.numel():
        grid = (cdiv(x.numel(), BLOCK),)
        launch(split_kernel, grid, x.device, x.contiguous(), found, x.numel(), PARTS=parts, BLOCK=BLOCK)
    return found


def multiply(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """left [N, K] times right [K, M] in float32, by tensor cores on a GPU; float64 in float64. The dtypes may differ otherwise.

    Of the products of two numbers in p parts each those are left out that are no larger than what the parts leave:
    part i of one with part j of the other where i + j >= p.
    """
    if left.dtype == torch.float64 or not left.is_cuda or not left.numel():
        wide = arithmetic_dtype(left.dtype)
        return product(left.to(wide), right.to(wide))
    dtype, parts = part_format(left.shape[1])
    lefts, rights = (x[None] if x.dtype == dtype else parts_of(x.float(), parts, dtype) for x in (left, right))
    pairs = [(x, y) for i, x in enumerate(lefts) for y in rights[: parts - i]]
    with full_precision(left.device):
        found = product(*pairs[0])
        for x, y in pairs[1:]:
            found += product(x, y)
    return found
