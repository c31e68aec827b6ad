"""How is a kernel started, compiled or interpreted, and in which dtype does it compute and write?"""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl

# Read once, when the kernels are decorated: changing the environment afterwards changes neither.
INTERPRETED = bool(triton.knobs.runtime.interpret)
COMPILED = tl.constexpr(not INTERPRETED)  # the same for device code


def device_function(function: Callable) -> Any:
    """What kernels call: compiled with them, but plain Python in the interpreter, which takes longer to enter a
    function of its own than to execute a dozen lines of it."""
    return function if INTERPRETED else triton.jit(function)


def arithmetic_dtype(storage: torch.dtype) -> torch.dtype:
    """float64 computes in float64, every other storage dtype in float32."""
    return torch.float64 if storage == torch.float64 else torch.float32


def triton_dtype(dtype: torch.dtype) -> tl.dtype:
    return tl.float64 if dtype == torch.float64 else tl.float32


def cdiv(length: int, block: int) -> int:
    """How many blocks it takes. (Triton's own may be called by kernels, too, and takes microseconds; so does its power of 2.)"""
    return -(-length // block)


def next_power_of_2(length: int) -> int:
    return 1 << (length - 1).bit_length()


def processors_of(device: torch.device) -> int:
    return 2**30 if INTERPRETED else torch.cuda.get_device_properties(device).multi_processor_count


def shared_memory(device: torch.device) -> int:
    """Bytes that a program may take."""
    if INTERPRETED:
        return 2**20
    return _shared_memory(torch.cuda.current_device() if device.index is None else device.index)


@functools.cache
def _shared_memory(index: int) -> int:
    return triton.runtime.driver.active.utils.get_device_properties(index)["max_shared_mem"]


def apply(function: type[torch.autograd.Function], options: tuple, *arrays: torch.Tensor | None) -> torch.Tensor:
    """function.apply(*options, keep, *arrays), where `keep` says whether backward may follow.

    The interpreter misreads subnormal bfloat16, and truncates where a store should round to nearest even. So
    there torch widens to float32 before and rounds after, as the compiled kernel does. It interprets float16
    rightly.
    """
    given = [array for array in arrays if array is not None]
    keep = torch.is_grad_enabled() and any(array.requires_grad for array in given)
    dtype = given[0].dtype
    if INTERPRETED and dtype == torch.bfloat16:
        arrays = tuple(None if array is None else array.float() for array in arrays)
    return function.apply(*options, keep, *arrays).to(dtype)


def launch(kernel, grid: tuple[int, ...], device: torch.device, *arguments, **options) -> None:
    """Run `kernel` on `device`, which need not be the current one."""
    if INTERPRETED:
        with warnings.catch_warnings():
            # NumPy warns where IEEE arithmetic quietly gives inf or NaN; a compiled kernel is quiet.
            warnings.simplefilter("ignore", RuntimeWarning)
            kernel[grid](*arguments, **options)
    else:
        with torch.cuda.device(device):
            # Triton's default is changing. A fused multiply-add only leaves a rounding out.
            kernel[grid](*arguments, **{"enable_fp_fusion": True, **options})
