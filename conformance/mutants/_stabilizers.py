"""Parts of a stabilized step: the mix of state and input, and the norms, right and wrong."""

from collections.abc import Callable

import torch
from torch import Tensor

# ---- mix ------------------------------------------------------------------------------------


def mixed(h: Tensor, g: Tensor, z: Tensor, gamma: Tensor) -> Tensor:
    """u = (1 - g) h + g z + gamma h."""
    return (1 - g) * h + g * z + gamma * h


def factored(h: Tensor, g: Tensor, z: Tensor, gamma: Tensor) -> Tensor:
    """The two shares of the state added first."""
    return ((1 - g) * h + gamma * h) + g * z


def exchanged(h: Tensor, g: Tensor, z: Tensor, gamma: Tensor) -> Tensor:
    return g * h + (1 - g) * z + gamma * h


def interpolated(h: Tensor, g: Tensor, z: Tensor, gamma: Tensor) -> Tensor:
    """h + g (z - h): an open gate does not give z back when h is large."""
    return h + g * (z - h) + gamma * h


def without_decay(h: Tensor, g: Tensor, z: Tensor, gamma: Tensor) -> Tensor:
    return (1 - g) * h + g * z + 0 * gamma


# ---- norm -----------------------------------------------------------------------------------


def normalized(u: Tensor, weight: Tensor, bias: Tensor, norm: str, eps: float, divisor: int | None = None) -> Tensor:
    """REC-14, the variance of the layer norm in two passes."""
    if norm == "none":
        return u
    if norm == "rms":
        return u * torch.rsqrt(u.square().mean(-1, keepdim=True) + eps) * weight
    centred = u - u.mean(-1, keepdim=True)
    variance = centred.square().sum(-1, keepdim=True) / (divisor or u.shape[-1])
    return centred * torch.rsqrt(variance + eps) * weight + bias


def normalized_apart(u: Tensor, weight: Tensor, bias: Tensor, norm: str, eps: float) -> Tensor:
    """The layer norm as x r - mean r, as libraries write it."""
    if norm != "layer":
        return normalized(u, weight, bias, norm, eps)
    mean = u.mean(-1, keepdim=True)
    r = torch.rsqrt((u - mean).square().mean(-1, keepdim=True) + eps)
    return (u * r - mean * r) * weight + bias


def normalized_by_welford(u: Tensor, weight: Tensor, bias: Tensor, norm: str, eps: float) -> Tensor:
    """Mean and variance of the layer norm in one pass that does not cancel."""
    if norm != "layer":
        return normalized(u, weight, bias, norm, eps)
    mean, squares = torch.zeros_like(u[..., 0]), torch.zeros_like(u[..., 0])
    for count, x in enumerate(u.unbind(-1), start=1):
        away = x - mean
        mean = mean + away / count
        squares = squares + away * (x - mean)
    r = torch.rsqrt(squares / u.shape[-1] + eps)
    return (u - mean[..., None]) * r[..., None] * weight + bias


def normalized_by_division(u: Tensor, weight: Tensor, bias: Tensor, norm: str, eps: float) -> Tensor:
    """Divided by a square root, where others multiply by its inverse."""
    if norm != "rms":
        return normalized(u, weight, bias, norm, eps)
    return weight * (u / torch.sqrt(eps + u.square().flip(-1).mean(-1, keepdim=True)))


def sample_variance(u: Tensor, weight: Tensor, bias: Tensor, norm: str, eps: float) -> Tensor:
    return normalized(u, weight, bias, norm, eps, divisor=max(u.shape[-1] - 1, 1))


def eps_outside(u: Tensor, weight: Tensor, bias: Tensor, norm: str, eps: float) -> Tensor:
    """u / (rms + eps), not u / sqrt(mean square + eps)."""
    if norm != "rms":
        return normalized(u, weight, bias, norm, eps)
    return u / (u.square().mean(-1, keepdim=True).sqrt() + eps) * weight


def constant_scale(u: Tensor, weight: Tensor, bias: Tensor, norm: str, eps: float) -> Tensor:
    """The gradient takes the scale of the norm for a constant."""
    if norm != "rms":
        return normalized(u, weight, bias, norm, eps)
    return u * torch.rsqrt(u.square().mean(-1, keepdim=True) + eps).detach() * weight


def with_eps(changed: Callable[[float], float]) -> Callable[..., Tensor]:
    return lambda u, weight, bias, norm, eps: normalized(u, weight, bias, norm, changed(eps))


def rms_without_weight(u: Tensor, weight: Tensor, bias: Tensor, norm: str, eps: float) -> Tensor:
    return normalized(u, torch.ones_like(weight) if norm == "rms" else weight, bias, norm, eps)


def rms_with_bias(u: Tensor, weight: Tensor, bias: Tensor, norm: str, eps: float) -> Tensor:
    return normalized(u, weight, bias, norm, eps) + (bias if norm == "rms" else 0)


def always_rms(u: Tensor, weight: Tensor, bias: Tensor, norm: str, eps: float) -> Tensor:
    return normalized(u, weight, bias, "rms" if norm == "layer" else norm, eps)
