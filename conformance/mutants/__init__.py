"""Who judges the judge? Wrong kernels that must be rejected, and correct ones, ordered otherwise, that must not.

One file an op, found by listing this folder. Each has ``VARIANTS``: small kernels in PyTorch, so that gradients
are judged too, most of them one shared kernel with a single deliberate mistake switched on. Their common parts:

    _contract    bad input, dtypes, empty input: what surrounds every kernel, and mistakes there
    _scans       orders in which a linear recurrence can be evaluated, its adjoint, and mistakes in both
    _arithmetic  matrix-vector products, sigmoids and roundings of every kind
    _products    the decay products in every order, and their gradients
    _stabilizers mixes and norms
    _faults      mistakes that any kernel can make: memory, buffers, strides, rows, steps
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch


@dataclass(frozen=True)
class Variant:
    """One way to implement an op, and what the judge should make of it."""

    name: str
    function: Callable[..., torch.Tensor]
    correct: bool
    why: str  # what is wrong with it, or why it is right although it rounds differently
    declares: Mapping[str, Any] = field(default_factory=dict)
    dtypes: tuple[str, ...] = ("float32",)
    caught_by: str = ""  # the check it is aimed at, which the audit asks first; any check may reject it


def wrong(
    name: str, function: Callable[..., torch.Tensor], why: str, *, caught_by: str = "",
    dtypes: tuple[str, ...] = ("float32",), declares: Mapping[str, Any] | None = None,
) -> Variant:  # fmt: skip
    """A kernel that must be rejected."""
    return Variant(name, function, False, why, declares or {}, dtypes, caught_by)


def right(
    name: str, function: Callable[..., torch.Tensor], why: str, *,
    dtypes: tuple[str, ...] = ("float32", "bfloat16"), declares: Mapping[str, Any] | None = None,
) -> Variant:  # fmt: skip
    """A kernel that must not be rejected."""
    return Variant(name, function, True, why, declares or {}, dtypes)


EVERY_DTYPE = ("float32", "float64", "bfloat16", "float16")


@cache
def all_variants() -> dict[str, tuple[Variant, ...]]:
    """The variants of every op, in the order of the files."""
    names = [module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")]
    return {name: importlib.import_module(f"{__name__}.{name}").VARIANTS for name in names}
