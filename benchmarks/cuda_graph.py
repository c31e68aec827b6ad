"""The gated recurrence as a loop of matrix products and pointwise kernels, replayed from a CUDA graph.

It is what a user can do without a kernel of their own: launches cost nothing any more, and what is left is the time
of one product after the other.
"""

from functools import cache
from typing import Any

MOST_STEPS = 256  # in one graph: longer ones take long to record


def gated_loop(z: Any, gamma: Any, W_g: Any, b_g: Any, h0: Any, dim: int) -> Any:
    """h_t = z_t * sigmoid(W_g h_{t-1} + b_g) + gamma_t * h_{t-1}, forward: [B,T,D], the state in float32.

    T is at most MOST_STEPS or a multiple of it (ValueError otherwise).
    """
    import torch

    batch, steps, channels = z.shape
    recorded = _recorded(batch, min(MOST_STEPS, steps), channels, z.dtype, z.device)
    if steps % recorded.steps:
        raise ValueError(f"T is {steps}, expected at most {MOST_STEPS} or a multiple of it")
    return recorded.run(z, gamma, W_g, b_g, h0, torch.empty_like(z))


@cache
def _recorded(batch: int, steps: int, channels: int, dtype: Any, device: Any) -> "RecordedSteps":
    return RecordedSteps(batch, steps, channels, dtype, device)


class RecordedSteps:
    """``steps`` steps as one graph that reads and writes arrays of its own; the state stays in it from run to run."""

    def __init__(self, batch: int, steps: int, channels: int, dtype: Any, device: Any):
        import torch

        def array(*shape: int, dtype: Any = dtype) -> torch.Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        self.steps = steps
        self.z, self.gamma, self.states = (array(batch, steps, channels) for _ in range(3))
        self.weight, self.bias = array(channels, channels), array(channels)
        self.h = array(batch, channels, dtype=torch.float32)
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside), torch.no_grad():
            self._step(0)  # libraries prepare themselves outside of the recording
        torch.cuda.current_stream().wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.graph(self.graph):
            for t in range(steps):
                self._step(t)

    def _step(self, t: int) -> None:
        import torch

        gate = torch.sigmoid(torch.nn.functional.linear(self.h.to(self.weight.dtype), self.weight, self.bias).float())
        self.h.mul_(self.gamma[:, t]).addcmul_(self.z[:, t], gate)
        self.states[:, t] = self.h

    def run(self, z: Any, gamma: Any, W_g: Any, b_g: Any, h0: Any, out: Any) -> Any:
        self.weight.copy_(W_g)
        self.bias.copy_(b_g)
        self.h.copy_(h0)
        for first in range(0, z.shape[1], self.steps):
            window = slice(first, first + self.steps)
            self.z.copy_(z[:, window])
            self.gamma.copy_(gamma[:, window])
            self.graph.replay()
            out[:, window] = self.states
        return out
