"""In which dtype does an op compute? Never in a narrower one than float32, whatever the storage dtype."""

from functools import cache

import torch


def arithmetic_dtype(storage: torch.dtype) -> torch.dtype:
    """Return float64 for float64, float32 for float32, bfloat16 and float16."""
    return torch.float64 if storage == torch.float64 else torch.float32


@cache
def below(number: float, dtype: torch.dtype) -> float:
    """Return the largest number of the dtype under this one, which is not 0."""
    return torch.nextafter(torch.tensor(number, dtype=dtype), torch.tensor(-torch.inf, dtype=dtype)).item()


def at_least(lowest: float, array: torch.Tensor) -> bool:
    """Is every number at least that, and none NaN? Only a CPU is asked, of others it is not said: to wait for their answer
    takes longer than to act as if one were below."""
    return array.device.type == "cpu" and bool(array.amin() >= lowest)


def no_negatives(decay: torch.Tensor) -> torch.Tensor:
    """Return the decay, itself where that is right, with NaN in place of negative values; -0.0 and NaN stay.

    `torch.where` says it more plainly and takes some twenty times longer on a CPU. A subnormal is no negative value:
    where the processor reads it as 0, a comparison with it would be one with 0.
    """
    if at_least(0.0, decay):
        return decay
    return torch.nn.functional.threshold(decay, -torch.finfo(decay.dtype).tiny, torch.nan)


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Return weight x + bias in the dtype of x; weight [E, D] and bias [E] are given in float64.

    The product is taken in float64 because PyTorch has process-wide switches that let a float32 product run in
    TF32 or bfloat16 (`torch.set_float32_matmul_precision`, `allow_tf32`), on GPU and CPU. Setting them back around
    the call would reach neither the backward pass, which autograd runs later, nor other threads. No switch
    touches float64.
    """
    return torch.nn.functional.linear(x.double(), weight, bias).to(x.dtype)


def contiguous_double(array: torch.Tensor) -> torch.Tensor:
    """Return the array in float64 and row-major: a matrix product may sum in another order for other strides."""
    return array.double().contiguous()
