"""Decay gate: how fast to forget, from the input and from its context.

Clauses     GAMMA-1, GAMMA-2, GAMMA-3, GAMMA-4, GAMMA-5, GAMMA-6, GAMMA-7
Parallel    every step at once
Memory      autograd keeps the input and the output of every layer
Precision   float32 for the narrow dtypes and float32, float64 for float64; matrix products in float64
"""

import torch

from ._checks import check_arrays, check_choice
from ._precision import arithmetic_dtype, contiguous_double, linear

LOWEST, HIGHEST = 1e-6, 1.0 - 1e-6
GELUS = {"tanh": "tanh", "erf": "none"}  # ours -> PyTorch's name of the same approximation


def decay_gate(
    z: torch.Tensor,
    k: torch.Tensor,
    base_w1: torch.Tensor,
    base_b1: torch.Tensor,
    base_w2: torch.Tensor,
    base_b2: torch.Tensor,
    context_w1: torch.Tensor,
    context_b1: torch.Tensor,
    context_w2: torch.Tensor,
    context_b2: torch.Tensor,
    *,
    gelu: str = "tanh",
) -> torch.Tensor:
    """Return gamma = clip(pathway(z; base) * pathway(k; context), 1e-6, 1 - 1e-6).

    A pathway is sigmoid(w2 gelu(w1 x + b1) + b2). The clip is taken before the conversion to the dtype of the
    arguments (in bfloat16 and float16, 1 - 1e-6 then becomes 1); the gradient is zero where it binds.

    Clauses  GAMMA-1 to GAMMA-7
    Args     z, k                    [B, T, D]  input and context per step
             base_w1, context_w1     [E, D]     weights act on column vectors
             base_b1, context_b1     [E]
             base_w2, context_w2     [D, E]
             base_b2, context_b2     [D]
             gelu                    "tanh" or "erf"
    Returns  [B, T, D] in the dtype of the arguments
    Raises   TypeError, ValueError when an argument has the wrong dtype or shape, or the option an unknown value;
             in checked mode also for NaN
    """
    check_arrays(
        {
            "z": (z, "BTD"),
            "k": (k, "BTD"),
            "base_w1": (base_w1, "ED"),
            "base_b1": (base_b1, "E"),
            "base_w2": (base_w2, "DE"),
            "base_b2": (base_b2, "D"),
            "context_w1": (context_w1, "ED"),
            "context_b1": (context_b1, "E"),
            "context_w2": (context_w2, "DE"),
            "context_b2": (context_b2, "D"),
        }
    )
    check_choice("gelu", gelu, tuple(GELUS))
    arithmetic = arithmetic_dtype(z.dtype)

    def pathway(
        x: torch.Tensor, w1: torch.Tensor, b1: torch.Tensor, w2: torch.Tensor, b2: torch.Tensor
    ) -> torch.Tensor:
        x = x.to(arithmetic).contiguous()
        hidden = linear(x, contiguous_double(w1), contiguous_double(b1))
        hidden = torch.nn.functional.gelu(hidden, approximate=GELUS[gelu])
        return torch.sigmoid(linear(hidden, contiguous_double(w2), contiguous_double(b2)))

    base = pathway(z, base_w1, base_b1, base_w2, base_b2)  # GAMMA-1, GAMMA-2
    context = pathway(k, context_w1, context_b1, context_w2, context_b2)  # GAMMA-3, GAMMA-4
    return (base * context).clamp(LOWEST, HIGHEST).to(z.dtype)  # GAMMA-5, GAMMA-6
