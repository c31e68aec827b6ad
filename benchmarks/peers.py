"""What others offer for the same work, timed in the same run: a measure of what a user gains.

A peer is not judged (torch.cumprod's gradient divides by the factors, and none of them floors a decay), and it is
timed in float32 only, because several accumulate in the storage dtype. Its function takes the op's arguments.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mmrec.benchmarks.cases import DIRECTIONS, PLANS, Case
from mmrec.conformance.ops import all_ops


@dataclass(frozen=True)
class Peer:
    """One way to compute an op with what a framework ships."""

    name: str
    op: str
    framework: str
    function: Callable[..., Any]
    directions: tuple[str, ...] = DIRECTIONS


def torch_cumprod(gamma: Any, initial: Any) -> Any:
    import torch

    return initial[:, None] * torch.cumprod(gamma, dim=1)


def torch_cumsum(log_gamma: Any, initial: Any) -> Any:
    import torch

    return initial[:, None] + torch.cumsum(log_gamma, dim=1)


def torch_loop(a: Any, b: Any, h0: Any) -> Any:
    """The recurrence as it is first written: one step a turn."""
    import torch

    h, states = h0, []
    for a_t, b_t in zip(a.unbind(1), b.unbind(1), strict=True):
        h = torch.addcmul(b_t, a_t, h)
        states.append(h)
    return torch.stack(states, dim=1)


def jax_associative_scan(a: Any, b: Any, h0: Any) -> Any:
    """jax.lax.associative_scan over pairs, differentiated by JAX itself."""
    import jax

    def then(first: Any, second: Any) -> Any:
        return second[0] * first[0], second[0] * first[1] + second[1]

    factors, states = jax.lax.associative_scan(then, (a, b), axis=1)
    return states + factors * h0[:, None]


PEERS = (
    Peer("torch.cumprod", "decay_product_exact", "torch", torch_cumprod),
    Peer("torch.cumsum", "log_decay_product", "torch", torch_cumsum),
    Peer("torch loop", "linear_recurrence", "torch", torch_loop, ("forward",)),
    Peer("jax.lax.associative_scan", "linear_recurrence", "jax", jax_associative_scan),
)


def peer_cases(kind: str) -> Iterator[Case]:
    """The peers at their op's float32 sizes."""
    for peer in PEERS:
        for lengths, dtypes in PLANS[kind].of(all_ops()[peer.op]):
            for direction in peer.directions if "float32" in dtypes else ():
                yield Case(peer.op, peer.name, peer.framework, direction, lengths, "float32", peer=True)


def peer(name: str) -> Peer:
    return next(peer for peer in PEERS if peer.name == name)
