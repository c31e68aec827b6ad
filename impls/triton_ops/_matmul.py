"""Matrix products by torch in full precision: no TF32, no 16-bit sums, no autocast, whatever the global settings.

An operand that is computed may come as parts side by side (_parts.py): [N, P K] for a matrix [N, K]. Products of one shape
are formed at once, as a stack.
"""

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar

import torch

NARROW = (torch.bfloat16, torch.float16)


_entered = ContextVar("full_precision", default=False)


@contextlib.contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Inside this context float32 matrices are multiplied in float32, and 16-bit ones, whose products float32 holds exactly,
    are summed in float32. Entering it takes torch about as long as a small product: who forms several enters it once."""
    if _entered.get():
        yield
        return
    token = _entered.set(True)
    try:
        with torch.autocast(device_type=device.type, enabled=False), _ieee_products(), _wide_sums():
            yield
    finally:
        _entered.reset(token)


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """x [N, K], weight [M, K], bias [M] -> [N, M]."""
    with full_precision(x.device):
        return torch.nn.functional.linear(x, weight, bias)


def product(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """left [N, K], right [K, M] of one dtype -> [N, M], float32 for 16-bit operands; or each of a stack [S, N, K], [S, K, M]."""
    multiply = torch.mm if left.dim() == 2 else torch.bmm
    with full_precision(left.device):
        if left.dtype not in NARROW:
            return multiply(left, right, out=out)
        if left.is_cuda:
            return multiply(left, right, out_dtype=torch.float32, out=out)
        return multiply(left.float(), right.float(), out=out)  # the same sum, where torch has no such product


def rounded_product(left: torch.Tensor, right: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Of stacks, in `dtype`, rounded once."""
    if left.dtype == dtype and left.is_cuda:
        with full_precision(left.device):
            return torch.bmm(left, right)
    return product(left, right).to(dtype)


def repeated(matrices: Sequence[torch.Tensor], parts: int, dtype: torch.dtype) -> torch.Tensor:
    """Matrices [K, M] -> [S, parts K, M], what a stack of other ones in parts is multiplied by: one sum takes all parts."""
    K, M = matrices[0].shape
    return torch.cat([matrix for matrix in matrices for _ in range(parts)]).to(dtype).view(-1, parts * K, M)


def repeated_transposed(matrices: Sequence[torch.Tensor], parts: int, dtype: torch.dtype) -> torch.Tensor:
    """The same of the transposes of matrices [M, K], whose rows stay rows in memory: a product reads either as fast."""
    M, K = matrices[0].shape
    beside = torch.cat([matrix for matrix in matrices for _ in range(parts)], 1).to(dtype)
    return beside.view(M, -1, parts * K).permute(1, 2, 0)


def transposed_product(left: torch.Tensor, right: torch.Tensor, K: int, M: int) -> torch.Tensor:
    """left [S, N, P K], right [S, N, P M], both in parts -> left^T right [S, K, M]. Of two parts, the product of the two
    smaller ones is left out: it is no larger than what they leave out."""
    left = left.transpose(1, 2)
    if left.shape[1] == K:
        return product(left, right)
    if left.shape[1] > 2 * K:
        return sum_of_parts(product(left, right), K, M)
    return sum_of_parts(product(left[:, K:], right), K, M).add_(product(left[:, :K], right[:, :, M:]))


def sum_of_parts(products: torch.Tensor, K: int, M: int) -> torch.Tensor:
    """Products of parts [S, P K, Q M] -> their sum [S, K, M]."""
    S, rows, columns = products.shape
    return products if (rows, columns) == (K, M) else products.view(S, rows // K, K, columns // M, M).sum((1, 3))


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


@contextlib.contextmanager
def _wide_sums() -> Iterator[None]:
    """Partial sums of 16-bit products stay in float32, wherever they are put together."""
    setting = torch.backends.cuda.matmul
    names = [f"allow_{dtype}_reduced_precision_reduction" for dtype in ("bf16", "fp16")]
    saved = {name: getattr(setting, name) for name in [*names, "allow_fp16_accumulation"]}
    # Newer versions of torch keep a second choice beside the first two, and forget it when the first is set alone.
    saved |= {name: (saved[name], False) for name in names if not getattr(setting, f"{name}_split_k", True)}
    try:
        for name in saved:
            setattr(setting, name, False)
        yield
    finally:
        for name, value in saved.items():
            setattr(setting, name, value)
