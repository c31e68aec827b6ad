"""A float32 number as a sum of bfloat16 numbers, so that tensor cores multiply it.

A tensor core multiplies 16-bit numbers exactly and sums in float32, an order of magnitude faster than float32 numbers are
multiplied. So where one operand of a product is stored in bfloat16 and the other is computed, and therefore float32, the
computed one is split: x = high + middle + low, side by side in memory, and one product sums over all of them.

    two parts leave out at most 2^-17 of x, which is 128 u (u = 2^-24): each takes 8 bits, and rounding to nearest
              leaves one bit to the sign of the rest
    three     leave out nothing: 3 x 8 bits are float32's 24 (underflow apart: below 2^-110 the last part is subnormal)

How many are needed? A sum of n products in any order may err by n u of the sum of their sizes; that is what float32
arithmetic is granted. Two parts are taken where they use at most half of it, 128 u <= n u / 2, and three for
shorter sums. The other half is for the sum itself. Assumed of a tensor core: it sums 16 products and what was summed
before at once, cuts each at a quarter of an ulp (at most 17 u / 2 together) and the result at an ulp (2 u), so it errs by
at most 11 u of what is summed so far, n / 16 times; over terms of even size that is 0.34 n u. The smallest parts come
first in the sum, where what is summed so far is small: three parts sum as well as one.
"""

import torch
import triton.language as tl

from ._launch import COMPILED, arithmetic_dtype, device_function

TWO_SUFFICE_FROM = 256  # terms of a sum: 128 u <= n u / 2


def operand_dtype(storage: torch.dtype) -> torch.dtype:
    """In which dtype a computed operand meets stored ones: bfloat16 parts for bfloat16.

    Parts of a float16 lack the range: what is computed need not fit into it.
    """
    return torch.bfloat16 if storage == torch.bfloat16 else arithmetic_dtype(storage)


def parts_needed(storage: torch.dtype, terms: int) -> int:
    """In how many parts the computed operand of a product that sums `terms` products is given."""
    if operand_dtype(storage) != torch.bfloat16:
        return 1
    return 2 if terms >= TWO_SUFFICE_FROM else 3


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
def split(x, PARTS: tl.constexpr, dtype: tl.constexpr):
    """PARTS numbers of `dtype`, the largest first, whose sum is x as nearly as they can; each is what is left, rounded."""
    parts = ()
    for _ in tl.static_range(PARTS):
        part = nearest(x, dtype)
        x = x - part.to(x.dtype)
        parts = parts + (part,)
    return parts


@device_function
def store_parts(ptr, x, width, PARTS: tl.constexpr, inside):
    """Store the parts of x `width` elements apart, the smallest at `ptr`."""
    parts = split(x, PARTS, ptr.dtype.element_ty)
    for i in tl.static_range(PARTS):
        tl.store(ptr + (PARTS - 1 - i) * width, parts[i], mask=inside)
