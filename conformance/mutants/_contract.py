"""What surrounds the arithmetic of every variant: input refused or accepted, widened, computed, narrowed."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch

from mmrec.conformance.ops import Op, all_ops

ACCEPTED = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
Kernel = Callable[..., torch.Tensor]

_domains_are_checked = ContextVar("domains_are_checked", default=False)


@contextmanager
def checked() -> Iterator[None]:
    """The checked mode of all variants (CONV-10)."""
    token = _domains_are_checked.set(True)
    try:
        yield
    finally:
        _domains_are_checked.reset(token)


def under_contract(
    op_name: str,
    core: Kernel,
    *,
    validates: bool = True,
    checks_domains: Callable[..., None] | None = None,
    accepts_no_steps: bool = True,
    narrows: bool = True,
    **changes: Callable[[torch.Tensor], torch.Tensor],
) -> Kernel:
    """The op whose arithmetic is ``core``: a function of the op's arguments and options.

    Each of ``changes`` names an argument and what happens to it before the arithmetic: the mistake of a mutant.
    """
    op = all_ops()[op_name]

    def kernel(*given: torch.Tensor, **options: Any) -> torch.Tensor:
        named = dict(zip(op.arguments, given, strict=True))
        if validates:
            refuse_bad_input(op, named, options)
        if _domains_are_checked.get():
            (checks_domains or refuse_outside_domain)(op, named)
        storage = given[0].dtype
        arithmetic = torch.float64 if storage == torch.float64 else torch.float32
        if given[0].shape[1] == 0 and accepts_no_steps:
            return given[0].clone()
        widened = {name: array.to(arithmetic) for name, array in named.items()}
        for name, change in changes.items():
            widened[name] = change(widened[name])
        result = core(*widened.values(), **options)
        return result.to(storage) if narrows else result

    return kernel


def refuse_bad_input(op: Op, arrays: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """TypeError or ValueError for what CONV-9 does not accept."""
    lengths: dict[str, tuple[int, str]] = {}
    first_name, first = next(iter(arrays.items()))
    for name, letters in op.arguments.items():
        array = arrays[name]
        if not isinstance(array, torch.Tensor) or array.dtype not in ACCEPTED:
            given = getattr(array, "dtype", type(array))
            raise TypeError(f"{name}: expected a tensor of one of {ACCEPTED}, got {given}")
        if array.dtype != first.dtype:
            raise TypeError(f"{name}: {array.dtype} does not match {first_name}: expected {first.dtype}")
        if array.ndim != len(letters):
            raise ValueError(f"{name}: shape {tuple(array.shape)} has {array.ndim} axes, expected {len(letters)}")
        for letter, length in zip(letters, array.shape, strict=True):
            expected, owner = lengths.setdefault(letter, (length, name))
            if length != expected:
                shape = tuple(array.shape)
                raise ValueError(f"{name}: shape {shape} does not match {owner}: expected {letter} = {expected}")
    for name, value in options.items():
        choices = op.options.get(name, ())
        if name not in op.options or (isinstance(value, str) and value not in choices):
            raise ValueError(f"{name}: {value!r} is not accepted, expected one of {choices or tuple(op.options)}")


def refuse_outside_domain(op: Op, arrays: Mapping[str, torch.Tensor]) -> None:
    """ValueError that names argument, position and number (CONV-10)."""
    for name, array in arrays.items():
        low, high = op.domains.get(name, (-torch.inf, torch.inf))
        outside = ~((array >= low) & (array <= high))
        if outside.any():
            position = outside.nonzero()[0].tolist()
            raise ValueError(f"{name}{position} = {array[tuple(position)].item():g} is outside [{low:g}, {high:g}]")


def differentiated_by(forward: Kernel, adjoint: Callable[..., tuple[torch.Tensor | None, ...]]) -> Kernel:
    """``forward(*arrays)`` whose gradients are ``adjoint(*arrays, result, g)``, as a fused kernel has them."""

    class Differentiated(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *arrays: torch.Tensor) -> torch.Tensor:
            result = forward(*arrays)
            ctx.save_for_backward(*arrays, result)
            return result

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
            return adjoint(*ctx.saved_tensors, g)

    return Differentiated.apply
