"""What the solver asks of all chunks at once: their linear maps with the gate frozen, a scan over them, a verdict.

Parallel    one program per tile of rows or channels
Memory      speculation reads z and gamma once; the others touch one state of each chunk
Precision   float32
"""

import torch
import triton
import triton.language as tl

from .._compile import CompileSpec, compile_spec
from .._device import sigmoid
from .._launch import launch

# ---- device code -------------------------------------------------------------------


@triton.jit
def then(a_first, b_first, a_second, b_second):
    """The affine map x -> a x + b of the first, followed by that of the second."""
    return a_second * a_first, a_second * b_first + b_second


@triton.jit
def freeze_kernel(
    z_ptr, gamma_ptr, bias_ptr, factor_ptr, value_ptr, B, T, chunk, D,
    z_stride_b, z_stride_t, z_stride_d, gamma_stride_b, gamma_stride_t, gamma_stride_d,
    BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """The map of each chunk's start to its end if the gate were sigmoid(bias) at every step."""
    r = tl.program_id(1)
    d = tl.program_id(0) * BLOCK_D + tl.arange(0, BLOCK_D)
    b, begin = (r % B).to(tl.int64), (r // B) * chunk
    end = tl.minimum(begin + chunk, T)
    gate = sigmoid(tl.load(bias_ptr + d, mask=d < D, other=0.0).to(tl.float32))
    factor = tl.full((BLOCK_D,), 1.0, tl.float32)
    value = tl.zeros((BLOCK_D,), tl.float32)
    for start in range(begin, end, BLOCK_T):
        t = (start + tl.arange(0, BLOCK_T)).to(tl.int64)
        inside = (t < end)[:, None] & (d < D)[None, :]
        z_tile = z_ptr + b * z_stride_b + t[:, None] * z_stride_t + d[None, :] * z_stride_d
        gamma_tile = gamma_ptr + b * gamma_stride_b + t[:, None] * gamma_stride_t + d[None, :] * gamma_stride_d
        inflow = tl.load(z_tile, mask=inside, other=0.0).to(tl.float32) * gate[None, :]
        gamma = tl.load(gamma_tile, mask=inside, other=1.0).to(tl.float32)
        factors, values = tl.reduce((gamma, inflow), 0, then)
        value = factors * value + values
        factor = factors * factor
    tl.store(factor_ptr + r.to(tl.int64) * D + d, factor, mask=d < D)
    tl.store(value_ptr + r.to(tl.int64) * D + d, value, mask=d < D)


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
def verdict_kernel(
    z_ptr, gamma_ptr, terms_ptr, previous_ptr, carry_ptr, out_ptr, verdict_ptr, step, B, T, chunk, D,
    z_stride_b, z_stride_t, z_stride_d, gamma_stride_b, gamma_stride_t, gamma_stride_d,
    of_product, of_storage, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Of each row: the largest distance of the stored state from the one just computed, in units of its room and
    beside the largest state."""
    r = tl.program_id(0)
    b, t = (r % B).to(tl.int64), ((r // B) * chunk + step).to(tl.int64)
    used, missed, size = 0.0, 0.0, 0.0
    if t < T:
        for start in range(0, D, BLOCK_D):
            d = start + tl.arange(0, BLOCK_D)
            inside = d < D
            at = r.to(tl.int64) * D + d
            z = tl.load(z_ptr + b * z_stride_b + t * z_stride_t + d * z_stride_d, mask=inside, other=0.0).to(tl.float32)
            gamma = tl.load(gamma_ptr + b * gamma_stride_b + t * gamma_stride_t + d * gamma_stride_d,
                            mask=inside, other=0.0).to(tl.float32)  # fmt: skip
            previous = tl.load(previous_ptr + at, mask=inside, other=0.0)
            new = tl.load(carry_ptr + at, mask=inside, other=0.0)
            terms = tl.load(terms_ptr + at, mask=inside, other=0.0).to(tl.float32)
            stored = tl.load(out_ptr + (b * T + t) * D + d, mask=inside, other=0.0).to(tl.float32)
            inflow = new - gamma * previous
            closed = tl.where(z == 0, 0.0, 1.0 - inflow / z)
            room = of_product * tl.abs(inflow * closed) * terms + of_storage * tl.abs(stored)
            distance = tl.abs(new - stored)
            same = (new == stored) | ((new != new) & (stored != stored))
            share = tl.where(same, 0.0, tl.where(distance <= room, distance / room, float("inf")))
            used = tl.maximum(used, tl.max(share, axis=0))
            missed = tl.maximum(missed, tl.max(tl.where(same, 0.0, distance), axis=0))
            size = tl.maximum(size, tl.max(tl.abs(stored), axis=0))
    tl.store(verdict_ptr + 2 * r, used)
    tl.store(verdict_ptr + 2 * r + 1, missed / tl.maximum(size, 1e-30))


def compile_specs() -> list[CompileSpec]:
    arithmetic = ("factor_ptr", "value_ptr", "initial_ptr", "before_ptr", "previous_ptr", "carry_ptr", "verdict_ptr")
    specs = [compile_spec(chain_kernel, "fp32", BLOCK_P=256, BLOCK_D=16)]
    for storage in ("fp32", "bf16"):
        specs.append(compile_spec(freeze_kernel, storage, arithmetic, BLOCK_T=32, BLOCK_D=128))
        shares = {"of_product": "fp32", "of_storage": "fp32"}
        specs.append(compile_spec(verdict_kernel, storage, arithmetic, types=shares, BLOCK_D=1024))
    return specs


# ---- launch ------------------------------------------------------------------------


def freeze(
    z: torch.Tensor, gamma: torch.Tensor, bias: torch.Tensor, chunk: int, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Factor and value [count, B, D] of every chunk's linear map."""
    B, T, D = z.shape
    factor, value = (torch.empty((count, B, D), dtype=torch.float32, device=z.device) for _ in range(2))
    block = min(128, triton.next_power_of_2(D))
    launch(
        freeze_kernel, (triton.cdiv(D, block), count * B), z.device,
        z, gamma, bias, factor, value, B, T, chunk, D, *z.stride(), *gamma.stride(),
        BLOCK_T=32, BLOCK_D=block,
    )  # fmt: skip
    return factor, value


def chain(factor: torch.Tensor, value: torch.Tensor, initial: torch.Tensor) -> torch.Tensor:
    """What the maps of the chunks before it make of the initial state [B, D], before every chunk [P, B, D]."""
    P, B, D = factor.shape
    before = torch.empty_like(factor)
    block = min(16, triton.next_power_of_2(D))
    launch(
        chain_kernel, (triton.cdiv(D, block), B), factor.device,
        factor, value, initial.contiguous(), before, P, B, D, BLOCK_P=min(256, triton.next_power_of_2(P)), BLOCK_D=block,
    )  # fmt: skip
    return before


def verdict(
    z: torch.Tensor, gamma: torch.Tensor, terms: torch.Tensor, previous: torch.Tensor, carry: torch.Tensor,
    out: torch.Tensor, chunk: int, step: int, of_product: float, of_storage: float,
) -> tuple[float, float]:  # fmt: skip
    """Largest share of its room that any stored state at this step of its chunk uses, and the largest defect."""
    B, T, D = z.shape
    found = torch.empty((carry.shape[0], 2), dtype=torch.float32, device=z.device)
    block = min(1024, triton.next_power_of_2(D))
    launch(
        verdict_kernel, (carry.shape[0],), z.device,
        z, gamma, terms, previous, carry, out, found, step, B, T, chunk, D, *z.stride(), *gamma.stride(),
        of_product, of_storage, BLOCK_D=block,
    )  # fmt: skip
    used, defect = found.amax(dim=0).tolist()
    return used, defect
