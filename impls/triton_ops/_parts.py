"""float32 numbers as sums of bfloat16 parts, whose products tensor cores form exactly and sum in float32.

bfloat16 has 8 significant bits, so the rest after p parts is at most 2^(-8 p) of the number: two parts leave 2^-16, three
2^-24, which is the unit roundoff of float32 itself. The sum of n products may err by n 2^-24 of its terms in any order
of its additions, and that is what the bounds grant. Two parts are enough where they use a quarter of it:
2^-16 <= n 2^-24 / 4, from n = 1024 on. Of the products of two numbers in p parts each those are left out that are no
larger than the rest: part i of one with part j of the other where i + j >= p.
"""

import torch
import triton
import triton.language as tl

from ._compile import CompileSpec, compile_spec
from ._launch import INTERPRETED, launch
from ._matmul import product

ENOUGH_FOR_TWO = 1024
BLOCK = 2048

# ---- device code -------------------------------------------------------------------


@triton.jit
def split_kernel(x_ptr, parts_ptr, N, PARTS: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)  # [BLOCK]
    inside = i < N
    rest = tl.load(x_ptr + i, mask=inside, other=0.0)
    for part in tl.static_range(PARTS):
        found = rest.to(parts_ptr.dtype.element_ty)
        tl.store(parts_ptr + tl.full((), part, tl.int64) * N + i, found, mask=inside)
        rest -= found.to(tl.float32)


def compile_specs() -> list[CompileSpec]:
    return [
        compile_spec(split_kernel, "fp32", types={"parts_ptr": "*bf16"}, PARTS=parts, BLOCK=BLOCK) for parts in (2, 3)
    ]


# ---- launch ------------------------------------------------------------------------


def part_format(terms: int) -> tuple[torch.dtype, int]:
    """In which dtype, and of how many parts, an operand is for a sum of so many products."""
    if INTERPRETED:  # it cannot multiply bfloat16
        return torch.float32, 1
    return torch.bfloat16, 2 if terms >= ENOUGH_FOR_TWO else 3


def split(x: torch.Tensor, parts: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    """[parts, *x.shape] whose sum is x, float32 and finite, but for what so many parts leave."""
    if x.dtype == dtype and parts == 1:
        return x[None]
    found = x.new_empty((parts, *x.shape), dtype=dtype)
    if x.numel():
        grid = (triton.cdiv(x.numel(), BLOCK),)
        launch(split_kernel, grid, x.device, x.contiguous(), found, x.numel(), PARTS=parts, BLOCK=BLOCK)
    return found


def multiply(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """left [N, K] times right [K, M] in float32, each of them in bfloat16 or float32; by tensor cores on a GPU."""
    if not left.is_cuda or not left.numel():
        return product(left.float(), right.float())
    dtype, parts = part_format(left.shape[1])
    lefts, rights = (split(x, 1 if x.dtype == dtype else parts, dtype) for x in (left, right))
    pairs = [(x, y) for i, x in enumerate(lefts) for y in rights[: parts - i]]
    with torch.autocast(device_type="cuda", enabled=False):
        found = torch.mm(*pairs[0], out_dtype=torch.float32)
        for x, y in pairs[1:]:
            found += torch.mm(x, y, out_dtype=torch.float32)
    return found
