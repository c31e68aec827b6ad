"""The scans over time in which channels do not mix: one forward and one backward kernel for four ops.

Clauses     MDI-1 (kind "linear"), SCAN-2 and STAB-3 ("product_floor"), STAB-8 ("product_exact"), SCAN-6
            ("log_sum")
Parallel    one program per batch row, tile of channels and chunk of time; a chunk hands its state on to the later
            ones (_handover.py). Kernels in _scan_kernels.py.
Memory      forward reads each input once and writes the result once; backward reads the gradient and the inputs
            once, and computes the states again from those that entered the chunks, which forward leaves behind.
            For float32 and float64 the linear recurrence reads its result instead of b and computes nothing again.
Precision   loads any float, computes in float64 for float64 and float32 otherwise, rounds once when it stores.
            Within a chunk the steps are taken one after the other from the state that enters it.
"""

from typing import Any

import torch
import triton
from torch.autograd.function import once_differentiable

from ._compile import STORAGES, CompileSpec, compile_spec
from ._launch import INTERPRETED, apply, arithmetic_dtype, launch, triton_dtype
from ._parts import TWO_SUFFICE_FROM, parts_needed
from ._scan_kernels import backward_kernel, forward_kernel

KINDS = ("linear", "product_floor", "product_exact", "log_sum")
# A program of one warp holds ROWS steps of VECTOR channels a thread in registers, two or three numbers of each.
# Measured on an H100: longer chunks hand over less often, until registers run out; backward holds more, and longer
# chunks take the compiler disproportionately longer.
ROWS = {torch.float64: 16, torch.float32: 64, torch.bfloat16: 64, torch.float16: 64}
ROWS_WITH_GRADIENT = {torch.float64: 16, torch.float32: 48, torch.bfloat16: 32, torch.float16: 32}
# Where decays are made of logits, a program holds two numbers for a factor and writes two gradients.
ROWS_GATED = {torch.float64: 8, torch.float32: 32, torch.bfloat16: 32, torch.float16: 32}
ROWS_GATED_WITH_GRADIENT = {torch.float64: 8, torch.float32: 24, torch.bfloat16: 16, torch.float16: 16}
VECTOR = {torch.float64: 1, torch.float32: 1, torch.bfloat16: 2, torch.float16: 2}
DISTANCE = 8  # chunks that one hop of waiting covers


def chunking(arrays: list[torch.Tensor], keep: bool) -> dict[str, Any]:
    """How the kernels divide their work, given what they read and whether backward will need the same chunks."""
    storage, (_, T, D) = arrays[0].dtype, arrays[0].shape
    if INTERPRETED:
        return _interpreted(T, D)
    vector = VECTOR[storage]
    aligned = all(x.stride(-1) == 1 and not any(length % vector for length in (D, *x.stride()[:-1])) for x in arrays)
    return _options((ROWS_WITH_GRADIENT if keep else ROWS)[storage], vector if aligned else 1)


def gated_chunking(b: torch.Tensor, keep: bool) -> dict[str, Any]:
    """The same where the decay gate's logits are read in place of factors: two wide numbers a channel, so one channel."""
    if INTERPRETED:
        return _interpreted(*b.shape[1:])
    return _options((ROWS_GATED_WITH_GRADIENT if keep else ROWS_GATED)[b.dtype], 1)


def wide_chunking(b: torch.Tensor, keep: bool) -> dict[str, Any]:
    """The same where the factors are float32 numbers, whatever b is: one channel."""
    if INTERPRETED:
        return _interpreted(*b.shape[1:])
    return _options((ROWS_WITH_GRADIENT if keep else ROWS)[b.dtype], 1)


def _interpreted(T: int, D: int) -> dict[str, Any]:
    """An interpreter pays per operation, not per lane: all channels at once, and few rows that are only padding."""
    rows = min(8, triton.next_power_of_2(max(T, 1)))
    return {"ROWS": rows, "DISTANCE": 2, "BLOCK_D": min(1024, triton.next_power_of_2(D)), "VECTOR": 1, "num_warps": 1}


def _options(rows: int, vector: int) -> dict[str, Any]:
    return {"ROWS": rows, "DISTANCE": DISTANCE, "BLOCK_D": 32 * vector, "VECTOR": vector, "num_warps": 1}


def computes_again(kind: str, storage: torch.dtype) -> bool:
    """Whether backward computes the states again: not if it needs none, nor if the result is the unrounded state and
    reading it costs no more than reading b."""
    return kind != "log_sum" and not (kind == "linear" and storage == arithmetic_dtype(storage))


def compile_specs() -> list[CompileSpec]:
    specs = []
    # The other kinds and storages compile to the same with other elementary steps and conversions.
    for kind, storages in (("linear", STORAGES), ("product_floor", ("fp32", "bf16")), ("log_sum", ("fp32",))):
        for storage in storages:
            dtype = STORAGES[storage]
            again = computes_again(kind, dtype)
            word = "*i64" if storage == "fp64" else "*i32"
            exchange = dict.fromkeys(("after_ptr", "factor_ptr", "flow_ptr"), word)
            states = {"states_ptr": word} if again else {}
            specs += [
                compile_spec(
                    forward_kernel, storage, types=exchange, KIND=kind, GATED=False,
                    **_options(ROWS[dtype], VECTOR[dtype]),
                ),
                compile_spec(
                    backward_kernel, storage, types=exchange | states, KIND=kind, GATED=False, PARTS=1, AGAIN=again,
                    **_options(ROWS_WITH_GRADIENT[dtype], VECTOR[dtype]),
                ),
            ]  # fmt: skip
            if kind == "linear":
                wide = ("a_ptr", "context_ptr", "dbias_ptr")
                parts = parts_needed(dtype, TWO_SUFFICE_FROM)
                specs += [
                    compile_spec(
                        forward_kernel, storage, wide, types=exchange, KIND=kind, GATED=True,
                        **_options(ROWS_GATED[dtype], 1),
                    ),
                    compile_spec(
                        backward_kernel, storage, wide, types=exchange | states, KIND=kind, GATED=True, AGAIN=again,
                        PARTS=parts, **_options(ROWS_GATED_WITH_GRADIENT[dtype], 1),
                    ),
                ]  # fmt: skip
    return specs


# ---- launch ------------------------------------------------------------------------


class Exchange:
    """One launch: how its work is divided, and the words through which its programs hand over their states, all of
    them unwritten, -1, at first."""

    def __init__(self, arrays: list[torch.Tensor], summaries: tuple[str, ...], options: dict[str, Any]):
        """`arrays` [B, T, D] or [B, D] are read by the kernel, the first of them [B, T, D]; `options` from a chunking."""
        a = arrays[0]
        B, T, D = a.shape
        self.options = options
        tiles = triton.cdiv(D, self.options["BLOCK_D"])
        chunks = triton.cdiv(T, self.options["ROWS"])
        self.words = chunks * B, D  # one for every channel of a chunk
        size = chunks * B * D
        dtype = torch.int64 if a.dtype == torch.float64 else torch.int32
        words = torch.full(((1 + len(summaries)) * size,), -1, dtype=dtype, device=a.device)
        self.after, *parts = words.split([size] * (1 + len(summaries)))
        given = dict(zip(summaries, parts, strict=True))
        self.grid = (chunks * B * tiles,)
        vector = self.options["VECTOR"]
        strides = [length for x in arrays for length in (*(outer // vector for outer in x.stride()[:-1]), x.stride(-1))]
        factor, flow = (given.get(name, self.after) for name in ("factor", "flow"))
        self.arguments = (self.after, factor, flow, T, D // vector, B * tiles, tiles, *strides)

    def run(self, kernel, *arrays: torch.Tensor, **options) -> None:
        launch(kernel, self.grid, arrays[0].device, *arrays, *self.arguments, **options, **self.options)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, kind, keep, a, b, initial):
        out = torch.empty_like(a, memory_format=torch.contiguous_format)
        b = a if b is None else b  # the kinds without b never read it
        summaries = {"linear": ("factor", "flow"), "log_sum": ("flow",)}.get(kind, ("factor",))
        arrays = [a, b, initial]
        exchange = Exchange(arrays, summaries, chunking(arrays, keep))
        arithmetic = triton_dtype(arithmetic_dtype(a.dtype))
        if a.shape[1]:
            exchange.run(forward_kernel, a, a, a, b, initial, out, KIND=kind, GATED=False, ARITHMETIC=arithmetic)
        ctx.kind, ctx.again = kind, computes_again(kind, a.dtype)
        if keep:
            states = exchange.after if ctx.again else out if kind == "linear" else initial
            ctx.save_for_backward(a, b if ctx.again else a, initial, states)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        a, b, initial, states = ctx.saved_tensors
        da = torch.empty_like(a, memory_format=torch.contiguous_format)
        db = torch.empty_like(da) if ctx.kind == "linear" else da
        dinitial = torch.empty_like(initial, memory_format=torch.contiguous_format)
        if a.shape[1]:
            summaries = ("flow",) if ctx.kind == "log_sum" else ("factor", "flow")
            arrays = [grad, a, b, initial]
            exchange = Exchange(arrays, summaries, chunking(arrays, keep=True))
            exchange.run(
                backward_kernel, grad, a, a, a, b, initial, states, da, da, db, dinitial,
                KIND=ctx.kind, GATED=False, PARTS=1, AGAIN=ctx.again, ARITHMETIC=triton_dtype(arithmetic_dtype(a.dtype)),
            )  # fmt: skip
        else:
            dinitial.zero_()
        return None, None, da, db if ctx.kind == "linear" else None, dinitial


def scan(kind: str, a: torch.Tensor, b: torch.Tensor | None, initial: torch.Tensor) -> torch.Tensor:
    """The recurrence of `kind` over dimension 1 of `a` [B, T, D], from `initial` [B, D]; only "linear" takes
    `b`."""
    return apply(_Scan, (kind,), a, b, initial)
