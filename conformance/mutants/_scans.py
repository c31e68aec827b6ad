"""Orders in which h_t = a_t h_{t-1} + b_t can be evaluated, forwards and backwards, with the mistakes made there.

Every scan is a function ``scan(a, b, h0) -> h`` for a, b [B,T,D] and h0 [B,D] with T >= 1.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from mmrec.conformance.mutants._arithmetic import unchanged
from mmrec.conformance.mutants._contract import Kernel, differentiated_by

Scan = Callable[[Tensor, Tensor, Tensor], Tensor]
Pair = tuple[Tensor, Tensor]  # a step or several: h -> factor * h + value

# ---- orders ---------------------------------------------------------------------------------


def sequential(a: Tensor, b: Tensor, h0: Tensor, keep: Callable[[Tensor], Tensor] = unchanged) -> Tensor:
    """One step after another; ``keep`` is what becomes of a state when it is stored."""
    h, states = h0, []
    for t in range(a.shape[1]):
        h = keep(a[:, t] * h + b[:, t])
        states.append(h)
    return torch.stack(states, dim=1)


def fused(a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
    """Each step a fused multiply-add: the exact a h + b, rounded once."""
    h, states = h0, []
    for t in range(a.shape[1]):
        h = (a[:, t].double() * h.double() + b[:, t].double()).to(a.dtype)
        states.append(h)
    return torch.stack(states, dim=1)


def last_state(states: Tensor, block: int) -> Tensor:
    """What a block hands to the next one."""
    return states[:, -1]


def chunked(
    a: Tensor, b: Tensor, h0: Tensor, size: int = 16, carry: Callable[[Tensor, int], Tensor] = last_state
) -> Tensor:
    """Blocks of ``size`` steps, each from state 0 on its own, then shifted by what the block before hands on."""
    h, blocks = h0, []
    for block, start in enumerate(range(0, a.shape[1], size)):
        decay, inflow = a[:, start : start + size], b[:, start : start + size]
        alone = sequential(decay, inflow, torch.zeros_like(h0))
        states = alone + torch.cumprod(decay, dim=1) * h[:, None]
        blocks.append(states)
        h = carry(states, block)
    return torch.cat(blocks, dim=1)


def composed(earlier: Pair, later: Pair, level: int) -> Pair:
    """First the earlier steps, then the later ones."""
    return later[0] * earlier[0], later[0] * earlier[1] + later[1]


def doubling(a: Tensor, b: Tensor, h0: Tensor, compose: Callable[[Pair, Pair, int], Pair] = composed) -> Tensor:
    """Hillis and Steele's tree: in each round every step absorbs as many earlier ones as it already holds."""
    value = torch.cat([a[:, :1] * h0[:, None] + b[:, :1], b[:, 1:]], dim=1)
    factor, reach, level = a, 1, 0
    while reach < a.shape[1]:
        joined = compose((factor[:, :-reach], value[:, :-reach]), (factor[:, reach:], value[:, reach:]), level)
        factor = torch.cat([factor[:, :reach], joined[0]], dim=1)
        value = torch.cat([value[:, :reach], joined[1]], dim=1)
        reach, level = 2 * reach, level + 1
    return value


def up_and_down(a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
    """Blelloch's tree: pairs of steps are joined, half the length is solved, the steps between are filled in."""
    steps = a.shape[1]
    if steps == 1:
        return a * h0[:, None] + b
    paired = steps - steps % 2
    factor, value = composed((a[:, 0:paired:2], b[:, 0:paired:2]), (a[:, 1:paired:2], b[:, 1:paired:2]), 0)
    after_pairs = up_and_down(factor, value, h0)
    before_even = torch.cat([h0[:, None], after_pairs], dim=1)[:, : (steps + 1) // 2]
    h = torch.zeros_like(b)
    h[:, 0::2] = a[:, 0::2] * before_even + b[:, 0::2]
    h[:, 1::2] = after_pairs
    return h


def in_blocks_of(size: int) -> Scan:
    return partial(chunked, size=size)


# ---- adjoint --------------------------------------------------------------------------------


def following(a: Tensor) -> Tensor:
    """a_{t+1}; nothing follows the last step."""
    return torch.cat([a[:, 1:], torch.zeros_like(a[:, :1])], dim=1)


def before(h0: Tensor, h: Tensor) -> Tensor:
    """h_{t-1}."""
    return torch.cat([h0[:, None], h[:, :-1]], dim=1)


def adjoint(
    a: Tensor, b: Tensor, h0: Tensor, h: Tensor, g: Tensor, *, scan: Scan = sequential,
    next_decay: Callable[[Tensor], Tensor] = following, earlier_state: Callable[[Tensor, Tensor], Tensor] = before,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """s_t = g_t + a_{t+1} s_{t+1};  da_t = s_t h_{t-1}, db_t = s_t, dh0 = a_0 s_0."""
    s = scan(next_decay(a).flip(1), g.flip(1), torch.zeros_like(h0)).flip(1)
    return s * earlier_state(h0, h), s, a[:, 0] * s[:, 0]


def affine(scan: Scan = sequential, backward: Callable[..., tuple[Tensor, ...]] | None = None) -> Kernel:
    """The linear recurrence evaluated by ``scan`` both ways, or differentiated by ``backward``."""
    return differentiated_by(scan, backward or partial(adjoint, scan=scan))


def without_last_gradient(a: Tensor, b: Tensor, h0: Tensor, h: Tensor, g: Tensor) -> tuple[Tensor, ...]:
    """Mistake: what the loss wants of the last step is dropped."""
    return adjoint(a, b, h0, h, torch.cat([g[:, :-1], torch.zeros_like(g[:, :1])], dim=1))


# ---- mistakes at block edges and in trees -----------------------------------------------------


def state_before_last(states: Tensor, block: int) -> Tensor:
    """Mistake: off by one at the edge of a block."""
    return states[:, -2] if states.shape[1] > 1 else states[:, -1]


def nothing_from_the_second_block(states: Tensor, block: int) -> Tensor:
    """Mistake: one block hands on nothing."""
    return states[:, -1] * (block != 1)


def in_bfloat16(states: Tensor, block: int) -> Tensor:
    """Mistake: carries are kept in bfloat16."""
    return states[:, -1].bfloat16().to(states.dtype)


def swapped_at_third_level(earlier: Pair, later: Pair, level: int) -> Pair:
    """Mistake: one level of the tree applies the later steps first."""
    return composed(later, earlier, level) if level == 2 else composed(earlier, later, level)


def masked_doubling(a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
    """Mistake: in the tree, steps before the beginning are masked by multiplying with 0, so that NaN survives it.

    The array is rolled, and what wraps around from the end to the beginning is the future.
    """
    value = torch.cat([a[:, :1] * h0[:, None] + b[:, :1], b[:, 1:]], dim=1)
    factor, reach = a, 1
    index = torch.arange(a.shape[1])[:, None]
    while reach < a.shape[1]:
        inside = (index >= reach).to(a.dtype)
        value = value + inside * factor * value.roll(reach, dims=1)
        factor = factor * (inside * factor.roll(reach, dims=1) + (1 - inside))
        reach *= 2
    return value
