"""Matrix products by torch in full precision: no TF32, no bfloat16 products, no autocast, whatever the global
settings."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """float32 products of float32 matrices are computed in float32 inside this context."""
    with torch.autocast(device_type=device.type, enabled=False), _ieee_products():
        yield


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """x [N, K], weight [M, K], bias [M] -> [N, M]."""
    with full_precision(x.device):
        return torch.nn.functional.linear(x, weight, bias)


def product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """left [N, K], right [K, M] -> [N, M]."""
    with full_precision(left.device):
        return left @ right


@contextlib.contextmanager
def _ieee_products() -> Iterator[None]:
    # torch gives mkldnn its matmul when it replaces the module by an object, which its annotations do not show.
    settings = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    saved = [setting.fp32_precision for setting in settings]
    if not {"tf32", "bf16"} & set(saved):
        yield
        return
    # torch keeps the setting twice and refuses to read either copy while they disagree: whoever set the older
    # one gets both changed and both restored.
    try:
        older = torch.get_float32_matmul_precision()
    except RuntimeError:
        older = None
    if older is not None:
        torch.set_float32_matmul_precision("highest")
    _set(settings, ["ieee", "ieee"])
    try:
        yield
    finally:
        if older is not None:
            torch.set_float32_matmul_precision(older)
        _set(settings, saved)


def _set(settings, precisions: list[str]) -> None:
    for setting, precision in zip(settings, precisions, strict=True):
        setting.fp32_precision = precision
