"""Which kernels does a module have, and with what types can they be compiled where there is no GPU?

A module's ``compile_specs()`` lists them. Each spec serves ``triton.compile(ASTSource(fn=kernel,
signature=signature, constexprs=constexprs, attrs=attrs), target=..., options=options)``.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import triton.language as tl

# Pointer types of the storage dtypes, with the dtype they are computed in.
STORAGES = {"fp64": torch.float64, "fp32": torch.float32, "bf16": torch.bfloat16}  # float16 compiles to what bf16 does
ARITHMETIC = {"fp64": tl.float64, "fp32": tl.float32, "bf16": tl.float32}


class CompileSpec(NamedTuple):
    kernel: Any
    signature: dict[str, str]
    constexprs: dict[str, object]
    options: dict[str, int]
    storage: str
    attrs: dict[tuple[int, ...], list]  # which arguments are multiples of 16: every pointer, in bytes, and some lengths


def compile_spec(
    kernel,
    storage: str,
    arithmetic_pointers: tuple[str, ...] = (),
    *,
    types: Mapping[str, str] | None = None,
    num_warps: int = 4,
    enable_fp_fusion: bool = True,
    maxnreg: int | None = None,
    **constexprs: Any,
) -> CompileSpec:
    """The types that a launch on contiguous arrays of dtype `storage` gives `kernel`, but for `types` of arguments.

    Arguments named ``*_ptr`` point to `storage`, or to its arithmetic dtype if listed in
    `arithmetic_pointers`. A stride of the last dimension, named ``*_stride_d``, is the constant 1, as
    Triton's own specialisation makes it, unless the kernel asks for none.
    """
    if "ARITHMETIC" in kernel.arg_names:
        constexprs["ARITHMETIC"] = ARITHMETIC[storage]
    constexprs |= {p.name: 1 for p in kernel.params if p.name.endswith("_stride_d") and not p.do_not_specialize}
    signature = {}
    for name in kernel.arg_names:
        if name in constexprs:
            signature[name] = "constexpr"
        elif types and name in types:
            signature[name] = types[name]
        elif name.endswith("_ptr"):
            narrow = storage in ("bf16", "fp16") and name in arithmetic_pointers
            signature[name] = "*fp32" if narrow else f"*{storage}"
        else:
            signature[name] = "i32"
    options = {"num_warps": num_warps, "enable_fp_fusion": enable_fp_fusion}
    if maxnreg is not None:
        options["maxnreg"] = maxnreg
    spec = CompileSpec(kernel, signature, constexprs, options, storage, {})
    return aligned(spec, *(name for name in kernel.arg_names if signature[name].startswith("*")))


def aligned(spec: CompileSpec, *names: str) -> CompileSpec:
    """The same where these arguments, if the kernel has them, are multiples of 16."""
    found = [i for i, name in enumerate(spec.kernel.arg_names) if name in names]
    return spec._replace(attrs=spec.attrs | {(i,): [["tt.divisibility", 16]] for i in found})
