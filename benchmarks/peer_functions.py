"""What others offer for the same work, as functions of arrays: the time axis is ``dim``, 1 in [B,T,D], 2 in [B,D,T]."""

from collections.abc import Callable
from functools import cache
from typing import Any

Arrays = tuple[Any, ...]


# ---- what a peer wants instead of the op's arguments, made before the clock runs ------------------------


def as_given(*arguments: Any) -> Arrays:
    return arguments


def without_initial(*arguments: Any) -> Arrays:
    """For scans that start from what changes nothing: 0 before a sum, 1 before a product."""
    return arguments[:-1]


def log_gates(a: Any, b: Any, h0: Any) -> Arrays:
    """For scans that take log decays and no initial state; in float32, because in bfloat16 they would be other decays."""
    return a.float().log(), b


# ---- PyTorch ------------------------------------------------------------------------------------------


def torch_cumprod(gamma: Any, dim: int) -> Any:
    import torch

    return torch.cumprod(gamma, dim)


def torch_cumsum(log_gamma: Any, dim: int) -> Any:
    import torch

    return torch.cumsum(log_gamma, dim)


def torch_log_product(gamma: Any, dim: int) -> Any:
    """exp of a running sum of logarithms, in float32 whatever comes in."""
    import torch

    return torch.exp(torch.cumsum(torch.log(gamma.float()), dim)).to(gamma.dtype)


def torch_log_product_compiled(gamma: Any, dim: int) -> Any:
    return compiled(torch_log_product)(gamma, dim)


def torch_loop(a: Any, b: Any, dim: int) -> Any:
    """The recurrence as it is first written: one step a turn."""
    import torch

    h, states = torch.zeros_like(b.select(dim, 0)), []
    for a_t, b_t in zip(a.unbind(dim), b.unbind(dim), strict=True):
        h = torch.addcmul(b_t, a_t, h)
        states.append(h)
    return torch.stack(states, dim=dim)


def torch_scan(a: Any, b: Any, dim: int) -> Any:
    """torch._higher_order_ops.associative_scan over pairs, compiled to one Triton kernel."""
    return compiled(_scan_of_pairs)(a, b, dim)


def _scan_of_pairs(a: Any, b: Any, dim: int) -> Any:
    from torch._higher_order_ops import associative_scan

    def then(first: Arrays, second: Arrays) -> Arrays:
        return second[0] * first[0], second[0] * first[1] + second[1]

    return associative_scan(then, (a, b), dim, combine_mode="pointwise")[1]


def torch_scan_product(gamma: Any, dim: int) -> Any:
    return compiled(_scan_of_factors)(gamma, dim)


def _scan_of_factors(gamma: Any, dim: int) -> Any:
    from torch._higher_order_ops import associative_scan

    def then(first: Any, second: Any) -> Any:
        return first * second

    return associative_scan(then, gamma, dim, combine_mode="pointwise")


@cache
def compiled(function: Callable) -> Callable:
    import torch

    return torch.compile(function, dynamic=False)


# ---- others -------------------------------------------------------------------------------------------


def fla_chunk(log_gates: Any, b: Any, dim: int) -> Any:
    from fla.ops.hgrn import chunk_hgrn

    return chunk_hgrn(b, log_gates)[0]


def fla_recurrent(log_gates: Any, b: Any, dim: int) -> Any:
    from fla.ops.hgrn import fused_recurrent_hgrn

    return fused_recurrent_hgrn(b, log_gates)[0]


def accelerated_scan(a: Any, b: Any, dim: int) -> Any:
    from accelerated_scan.scalar import scan

    return scan(a, b)


# ---- JAX ----------------------------------------------------------------------------------------------


def jax_scan(a: Any, b: Any, dim: int) -> Any:
    """jax.lax.associative_scan over pairs, differentiated by JAX itself."""
    import jax

    def then(first: Arrays, second: Arrays) -> Arrays:
        return second[0] * first[0], second[0] * first[1] + second[1]

    return jax.lax.associative_scan(then, (a, b), axis=dim)[1]


def jax_scan_product(gamma: Any, dim: int) -> Any:
    import jax

    return jax.lax.associative_scan(jax.numpy.multiply, gamma, axis=dim)


def jax_log_product(gamma: Any, dim: int) -> Any:
    import jax.numpy as jnp

    return jnp.exp(jnp.cumsum(jnp.log(gamma.astype(jnp.float32)), axis=dim)).astype(gamma.dtype)
