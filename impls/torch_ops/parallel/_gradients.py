"""What do the weight and bias of a gate get, once it is known what the loss wants of its logits?"""

import torch


def of_gate_parameters(dlogits: torch.Tensor, before: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums over rows and steps, in float64: of dlogits h^T and of dlogits, both [B, T, D], h being the state before."""
    D = before.shape[2]
    dlogits = dlogits.double().reshape(-1, D)
    dW = dlogits.T @ before.double().reshape(-1, D)
    return dW.to(before.dtype), dlogits.sum(0).to(before.dtype)
