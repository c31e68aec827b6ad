"""PyTorch subjects: tensors in every memory layout, gradients by torch.autograd."""

import os
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch

DIFFERENTIABLE = True
STRIDED = True


def devices() -> list[str]:
    here = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    kinds = {"cpu": 1, **({here.type: torch.accelerator.device_count()} if here else {})}
    return [name for kind, count in kinds.items() for name in (kind, *(f"{kind}:{i}" for i in range(count)))]


@cache
def prepare() -> None:
    """Fill every uninitialised floating-point buffer with NaN, so that reading one shows."""

    if not torch.cuda.is_available():
        os.environ.setdefault("TRITON_INTERPRET", "1")  # kernels written in Triton run in its interpreter here

    def poisoned(allocate: Callable) -> Callable:
        def allocate_poisoned(*args: Any, **kwargs: Any) -> torch.Tensor:
            tensor = allocate(*args, **kwargs)
            return tensor.fill_(float("nan")) if tensor.is_floating_point() else tensor

        return allocate_poisoned

    for name in ("empty", "empty_like", "empty_strided", "empty_permuted"):
        setattr(torch, name, poisoned(getattr(torch, name)))
    for name in ("new_empty", "new_empty_strided"):
        setattr(torch.Tensor, name, poisoned(getattr(torch.Tensor, name)))


def make(values: np.ndarray, dtype: str, layout: str, batched: bool, device: str | None) -> torch.Tensor:
    tensor = torch.tensor(np.asarray(values), dtype=getattr(torch, dtype), device=device)
    if layout == "transposed":
        return tensor.permute(*reversed(range(tensor.ndim))).contiguous().permute(*reversed(range(tensor.ndim)))
    if layout == "strided":
        wide = torch.full((*tensor.shape[:-1], 2 * tensor.shape[-1] + 1), torch.nan, dtype=tensor.dtype, device=device)
        wide[..., 1::2] = tensor
        return wide[..., 1::2]
    if layout == "expanded" and batched:
        return tensor[:1].clone().expand(tensor.shape)
    return tensor


def refill(array: torch.Tensor, values: np.ndarray) -> torch.Tensor:
    array.copy_(torch.tensor(np.asarray(values), dtype=array.dtype))
    return array


def call(function: Callable, arrays: dict[str, torch.Tensor], options: dict[str, Any]) -> Any:
    with torch.no_grad():
        return _finished(function(*arrays.values(), **options))


def gradients(
    function: Callable, arrays: dict[str, torch.Tensor], options: dict[str, Any], g: torch.Tensor
) -> tuple[Any, dict[str, Any]]:
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in arrays.items()}
    result = function(*leaves.values(), **options)
    if not isinstance(result, torch.Tensor):
        return result, {}
    if not result.requires_grad:
        raise RuntimeError("the result is not differentiable: it does not require grad though every argument does")
    grads = torch.autograd.grad(result, list(leaves.values()), g, allow_unused=True)
    named = {name: torch.zeros_like(leaf) if grad is None else grad
             for (name, leaf), grad in zip(leaves.items(), grads, strict=True)}  # fmt: skip
    return _finished(result.detach()), named


def read(array: Any) -> tuple[np.ndarray, str]:
    if type(array) is not torch.Tensor:
        raise TypeError(f"returned {type(array).__name__}, expected torch.Tensor")
    return array.detach().to("cpu", torch.float64).numpy(), str(array.dtype).removeprefix("torch.")


def shares_memory(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.numel() > 0 and one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def _finished(result: Any) -> Any:
    """Wait for the device, so that a fault is raised by the call that caused it."""
    if isinstance(result, torch.Tensor) and result.is_cuda:
        torch.cuda.synchronize(result.device)
    return result
