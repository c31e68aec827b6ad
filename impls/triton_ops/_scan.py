"""The scans over time in which channels do not mix: one forward and one backward kernel for four ops.

Clauses     MDI-1 (kind "linear"), SCAN-2 and STAB-3 ("product_floor"), STAB-8 ("product_exact"), SCAN-6
            ("log_sum")
Parallel    one program per batch row, tile of channels and chunk of time, one warp per segment of the chunk; a chunk
            hands its state on to the later ones (_handover.py). Kernels in _scan_kernels.py.
Memory      forward reads each input once and writes the result once; backward reads the gradient and the inputs
            once, and computes the states again from those that entered the segments, which forward leaves behind.
            For float32 and float64 the linear recurrence reads its result instead of b and computes nothing again.
Precision   loads any float, computes in float64 for float64 and float32 otherwise, rounds once when it stores.
            Within a segment the steps are taken one after the other from the state that enters it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from ._compile import STORAGES, CompileSpec, compile_spec
from ._launch import INTERPRETED, apply, arithmetic_dtype, cdiv, launch, next_power_of_2, triton_dtype
from ._parts import TWO_SUFFICE_FROM, parts_needed
from ._scan_kernels import backward_kernel, forward_kernel

KINDS = ("linear", "product_floor", "product_exact", "log_sum")
SEGMENTS = 4  # warps of a program, one after another in time
GROUP = 128  # lanes (batch rows and tiles of channels) that go through time together
DISTANCE = 3  # chunks that one hop of waiting covers
# Channels of a thread. Logits are float32 for every narrow storage, and two of them share an address and a comparison.
VECTOR = {torch.float64: 1, torch.float32: 1, torch.bfloat16: 2, torch.float16: 2}
GATED_VECTOR = {torch.float64: 1, torch.float32: 2, torch.bfloat16: 2, torch.float16: 2}


class Held(NamedTuple):
    """How many steps a warp holds, a register or two for each number, and how many registers a thread may have for all:
    168 let twelve warps run at once on a processor, 128 sixteen."""

    rows: int
    registers: int | None = None


# Chosen on an H200 (notes/scan.md), the gated ones on an H100 (notes/decay_gate.md): longer segments hand over less often,
# more warps hide more of the memory's latency.
# Where backward computes states again, forward leaves those behind that enter backward's segments: its own are so long
# as one or several of them.
FORWARD = {
    "linear": {torch.float64: Held(16), torch.float32: Held(60, 168), torch.bfloat16: Held(56, 168)},
    "product": {torch.float64: Held(16), torch.float32: Held(80, 128), torch.bfloat16: Held(84, 128)},
    "log_sum": {torch.float64: Held(16), torch.float32: Held(88, 128), torch.bfloat16: Held(64, 168)},
    "gated": {torch.float64: Held(8), torch.float32: Held(20, 168), torch.bfloat16: Held(24, 168)},
}
BACKWARD = {
    "linear": {torch.float64: Held(16), torch.float32: Held(40, 168), torch.bfloat16: Held(28, 168)},
    "product": {torch.float64: Held(16), torch.float32: Held(40, 168), torch.bfloat16: Held(28, 168)},
    "log_sum": {torch.float64: Held(16), torch.float32: Held(64, 168), torch.bfloat16: Held(64, 168)},
    "gated": {torch.float64: Held(8), torch.float32: Held(10, 168), torch.bfloat16: Held(12, 168)},
}


def held(table: Mapping[str, Mapping[torch.dtype, Held]], kind: str, gated: bool, storage: torch.dtype) -> Held:
    family = "gated" if gated else "product" if kind.startswith("product") else kind
    return table[family][torch.bfloat16 if storage == torch.float16 else storage]


def division(arrays: list[torch.Tensor], limits: Held, vectors: Mapping[torch.dtype, int] = VECTOR) -> dict[str, Any]:
    """How a kernel that reads these arrays divides its work."""
    storage, (_, T, D) = arrays[0].dtype, arrays[0].shape
    if INTERPRETED:  # it pays per operation, not per lane: all channels at once, and few rows that are only padding
        rows, block = min(8, next_power_of_2(max(T, 1))), min(1024, next_power_of_2(D))
        shape = {"SEGMENTS": 1, "ROWS": rows, "GROUP": GROUP, "DISTANCE": 2, "BLOCK_D": block, "VECTOR": 1}
        return {**shape, "num_warps": 1}
    vector = vectors[storage]
    aligned = all(x.stride(-1) == 1 and not any(length % vector for length in (D, *x.stride()[:-1])) for x in arrays)
    return _options(limits, vector if aligned else 1)


def _options(limits: Held, vector: int) -> dict[str, Any]:
    limited = {} if limits.registers is None else {"maxnreg": limits.registers}
    return {
        "SEGMENTS": SEGMENTS, "ROWS": limits.rows, "GROUP": GROUP, "DISTANCE": DISTANCE, "BLOCK_D": 32 * vector, "VECTOR": vector,
        "num_warps": SEGMENTS, **limited,
    }  # fmt: skip


def computes_again(kind: str, storage: torch.dtype) -> bool:
    """Whether backward computes the states again: not if it needs none, nor if the result is the unrounded state and
    reading it costs no more than reading b."""
    return kind != "log_sum" and not (kind == "linear" and storage == arithmetic_dtype(storage))


def compile_specs() -> list[CompileSpec]:
    def specs(kind: str, storage: str, gated: bool) -> list[CompileSpec]:
        dtype = STORAGES[storage]
        again, vector = computes_again(kind, dtype), (GATED_VECTOR if gated else VECTOR)[dtype]
        forward, backward = (held(table, kind, gated, dtype) for table in (FORWARD, BACKWARD))
        wide = (("a_ptr", "context_ptr", "dbias_ptr") if gated else ()) + (("states_ptr",) if again else ())
        word = "*i64" if storage == "fp64" else "*i32"
        types = dict.fromkeys(("after_ptr", "factor_ptr", "flow_ptr"), word)
        parts = parts_needed(dtype, TWO_SUFFICE_FROM) if gated else 1
        return [
            compile_spec(
                forward_kernel, storage, wide, types=types, KIND=kind, GATED=gated, KEEP=backward.rows if again else 0,
                **_options(forward, vector),
            ),
            compile_spec(
                backward_kernel, storage, wide, types=types, KIND=kind, GATED=gated, PARTS=parts, AGAIN=again,
                **_options(backward, vector),
            ),
        ]  # fmt: skip

    # The other kinds and storages compile to the same with other elementary steps and conversions.
    known = [("linear", storage, gated) for storage in STORAGES for gated in (False, True)]
    known += [("product_floor", "fp32", False), ("product_floor", "bf16", False), ("log_sum", "fp32", False)]
    return [spec for kind, storage, gated in known for spec in specs(kind, storage, gated)]


# ---- launch ------------------------------------------------------------------------


class Exchange:
    """One launch: how its work is divided, and the words through which its programs hand over their states, all of
    them unwritten, -1, at first."""

    def __init__(self, arrays: list[torch.Tensor], summaries: tuple[str, ...], options: dict[str, Any]):
        """`arrays` [B, T, D] or [B, D] are read by the kernel, the first of them [B, T, D]; `options` from a division."""
        a = arrays[0]
        B, T, D = a.shape
        self.options = options
        tiles = cdiv(D, self.options["BLOCK_D"])
        segments = self.options["SEGMENTS"]
        chunks = cdiv(T, segments * self.options["ROWS"])
        self.segments = chunks * segments
        # Every array of words begins at 16 bytes: one kernel serves all shapes.
        size = cdiv(chunks * B * D, 4) * 4
        dtype = torch.int64 if a.dtype == torch.float64 else torch.int32
        words = torch.full(((1 + len(summaries)) * size,), -1, dtype=dtype, device=a.device)
        after, *parts = words.split([size] * (1 + len(summaries)))
        given = dict(zip(summaries, parts, strict=True))
        self.grid = (chunks * B * tiles,)
        vector = self.options["VECTOR"]
        strides = [length for x in arrays for length in (*(outer // vector for outer in x.stride()[:-1]), x.stride(-1))]
        factor, flow = (given.get(name, after) for name in ("factor", "flow"))
        self.arguments = (after, factor, flow, T, D // vector, B * tiles, tiles, *strides)

    def run(self, kernel, *arrays: torch.Tensor, **options) -> None:
        launch(kernel, self.grid, arrays[0].device, *arrays, *self.arguments, **options, **self.options)


def room_for_states(b: torch.Tensor, rows: int) -> torch.Tensor:
    """For the state before every `rows` steps of [B, T, D]."""
    B, T, D = b.shape
    return b.new_empty((cdiv(T, rows), B, D), dtype=arithmetic_dtype(b.dtype))


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, kind, keep, a, b, initial):
        out = torch.empty_like(a, memory_format=torch.contiguous_format)
        b = a if b is None else b  # the kinds without b never read it
        summaries = {"linear": ("factor", "flow"), "log_sum": ("flow",)}.get(kind, ("factor",))
        arrays = [a, b, initial]
        ctx.kind, ctx.again = kind, computes_again(kind, a.dtype)
        kept = division([a], held(BACKWARD, kind, False, a.dtype))["ROWS"] if keep and ctx.again else 0
        states = room_for_states(a, kept) if kept else out if kind == "linear" else initial
        if a.shape[1]:
            Exchange(arrays, summaries, division(arrays, held(FORWARD, kind, False, a.dtype))).run(
                forward_kernel, a, a, a, b, initial, out, states,
                KIND=kind, GATED=False, KEEP=kept, ARITHMETIC=triton_dtype(arithmetic_dtype(a.dtype)),
            )  # fmt: skip
        if keep:
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
            Exchange(arrays, summaries, division(arrays, held(BACKWARD, ctx.kind, False, a.dtype))).run(
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
