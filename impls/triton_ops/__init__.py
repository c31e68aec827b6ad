"""The ops as Triton kernels for torch tensors.

They run compiled on CUDA, and in Triton's interpreter on the CPU if TRITON_INTERPRET=1 is set before triton
is imported. A CPU tensor without the interpreter is an error, never another implementation.

One op, one module of the op's name. A module whose name starts with an underscore holds what several ops
share: _scan, _scan_kernels, _scan_rows and _handover (the channel-wise scans), _gate_networks and _gate_kernels (the
decay gate), _row (recurrences of few channels), _walk and _exchange (of many), _gated_* and _stabilized_* (one
recurrence each), _device (functions called inside kernels), _matmul (matrix products in full precision), _parts
(float32 numbers for tensor cores), _launch, _checks, and _compile (what compiles without a GPU). decay_gate_scan is
two ops in one, and no op of its own. The folder rows takes many rows of a recurrence through time together, parallel
solves one in parallel over time; notes says of kernels what limits them and what was tried.
"""

import importlib
import pkgutil

import torch

from ._checks import checked
from ._decay_gate_scan import decay_gate_scan

_OPS = {
    name: getattr(importlib.import_module(f"{__name__}.{name}"), name)
    for _, name, is_package in pkgutil.iter_modules(__path__)
    if not is_package and not name.startswith("_")
}
globals().update(_OPS)

SUBJECT = {
    "name": "triton",
    "framework": "torch",
    "device": "cuda" if torch.cuda.is_available() else "cpu",
    "ops": _OPS,
    "checked": checked,
}

__all__ = ["SUBJECT", "checked", "decay_gate_scan", *_OPS]
