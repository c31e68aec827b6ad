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
from ._scan_kernels import backward_kernel, forward_kernel

KINDS = ("linear", "product_floor", "product_exact", "log_sum")
# A program of one warp holds ROWS steps of 32 channels in registers, two or three numbers a step.
ROWS = 32
ROWS_FLOAT64 = 16
DISTANCE = 16
CHANNELS = 32


def chunking(storage: torch.dtype, D: int) -> dict[str, Any]:
    """How the kernels divide their work; the interpreter pays per operation, not per lane, so there rows are wide."""
    if INTERPRETED:
        return {"ROWS": 16, "DISTANCE": 3, "BLOCK_D": min(1024, triton.next_power_of_2(D)), "num_warps": 1}
    rows = ROWS_FLOAT64 if storage == torch.float64 else ROWS
    return {"ROWS": rows, "DISTANCE": DISTANCE, "BLOCK_D": CHANNELS, "num_warps": 1}


def computes_again(kind: str, storage: torch.dtype) -> bool:
    """Whether backward computes the states again: not if it needs none, nor if the result is the unrounded state and
    reading it costs no more than reading b."""
    return kind != "log_sum" and not (kind == "linear" and storage == arithmetic_dtype(storage))


def compile_specs() -> list[CompileSpec]:
    specs = []
    for kind in KINDS:
        for storage, dtype in STORAGES.items():
            options = {"KIND": kind, "ROWS": ROWS_FLOAT64 if storage == "fp64" else ROWS, "DISTANCE": DISTANCE,
                       "BLOCK_D": CHANNELS}  # fmt: skip
            words = ("after_ptr", "factor_ptr", "flow_ptr", "ticket_ptr")
            again = computes_again(kind, dtype)
            backward_words = (*words, "states_ptr") if again else words
            specs += [
                compile_spec(forward_kernel, storage, words=words, num_warps=1, **options),
                compile_spec(backward_kernel, storage, words=backward_words, num_warps=1, AGAIN=again, **options),
            ]
    return specs


# ---- launch ------------------------------------------------------------------------


class Exchange:
    """The words through which the programs of one launch hand over their states; all are unwritten, -1, at first."""

    def __init__(self, a: torch.Tensor, summaries: tuple[str, ...]):
        B, T, D = a.shape
        self.options = chunking(a.dtype, D)
        self.tiles = triton.cdiv(D, self.options["BLOCK_D"])
        self.lanes = B * self.tiles
        self.programs = self.lanes * triton.cdiv(T, self.options["ROWS"])
        size = self.programs * self.options["BLOCK_D"]
        dtype = torch.int64 if a.dtype == torch.float64 else torch.int32
        words = torch.full(((1 + len(summaries)) * size + 1,), -1, dtype=dtype, device=a.device)
        *parts, self.ticket = words.split([size] * (1 + len(summaries)) + [1])
        self.after = parts[0]
        given = dict(zip(summaries, parts[1:], strict=True))
        self.factor, self.flow = (given.get(name, self.after) for name in ("factor", "flow"))

    def run(self, kernel, device: torch.device, arrays: tuple, T: int, D: int, strides: tuple, **options) -> None:
        launch(
            kernel, (self.programs,), device,
            *arrays, self.after, self.factor, self.flow, self.ticket, T, D, self.lanes, self.tiles, *strides,
            **options, **self.options,
        )  # fmt: skip


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, kind, keep, a, b, initial):
        _, T, D = a.shape
        out = torch.empty_like(a, memory_format=torch.contiguous_format)
        second = a if b is None else b  # the kinds without b never read it
        exchange = Exchange(a, {"linear": ("factor", "flow"), "log_sum": ("flow",)}.get(kind, ("factor",)))
        arithmetic = triton_dtype(arithmetic_dtype(a.dtype))
        if T:
            exchange.run(
                forward_kernel, a.device, (a, second, initial, out), T, D,
                (*a.stride(), *second.stride(), *initial.stride()), KIND=kind, ARITHMETIC=arithmetic,
            )  # fmt: skip
        ctx.kind, ctx.again = kind, computes_again(kind, a.dtype)
        if keep:
            states = exchange.after if ctx.again else out if kind == "linear" else initial
            ctx.save_for_backward(a, second if ctx.again else a, initial, states)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        a, b, initial, states = ctx.saved_tensors
        _, T, D = a.shape
        da = torch.empty_like(a, memory_format=torch.contiguous_format)
        db = torch.empty_like(da) if ctx.kind == "linear" else da
        dinitial = torch.empty_like(initial, memory_format=torch.contiguous_format)
        if T:
            exchange = Exchange(a, ("flow",) if ctx.kind == "log_sum" else ("factor", "flow"))
            exchange.run(
                backward_kernel, a.device, (grad, a, b, initial, states, da, db, dinitial), T, D,
                (*grad.stride(), *a.stride(), *b.stride(), *initial.stride()),
                KIND=ctx.kind, AGAIN=ctx.again, ARITHMETIC=triton_dtype(arithmetic_dtype(a.dtype)),
            )  # fmt: skip
        else:
            dinitial.zero_()
        return None, None, da, db if ctx.kind == "linear" else None, dinitial


def scan(kind: str, a: torch.Tensor, b: torch.Tensor | None, initial: torch.Tensor) -> torch.Tensor:
    """The recurrence of `kind` over dimension 1 of `a` [B, T, D], from `initial` [B, D]; only "linear" takes
    `b`."""
    return apply(_Scan, (kind,), a, b, initial)
