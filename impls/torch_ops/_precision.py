"""In which dtype does an op compute? Never in a narrower one than float32, whatever the storage dtype."""

import torch


def arithmetic_dtype(storage: torch.dtype) -> torch.dtype:
    """Return float64 for float64, float32 for float32, bfloat16 and float16."""
    return torch.float64 if storage == torch.float64 else torch.float32


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
