"""How is time cut into chunks that advance together?

Row `chunk * B + b` of step `j` is time `chunk * steps + j` of batch row `b`: one step of all chunks is one contiguous
[rows, D] array. A last chunk that is not full is filled with zeros, which nothing that is returned depends on.
"""

from dataclasses import dataclass

import torch

FEWEST_STEPS = 16  # below, what a step of the solver costs beside its product outweighs what is gained
MOST_ROWS = 512  # a product with so many rows keeps a GPU busy: more would take longer, not shorter


@dataclass(frozen=True)
class Chunks:
    """T steps of B batch rows, cut into chunks of `steps` steps."""

    B: int
    T: int
    steps: int

    @property
    def count(self) -> int:
        return -(-self.T // self.steps)

    def cut(self, array: torch.Tensor) -> torch.Tensor:
        """[B, T, D] -> [steps, count * B, D]."""
        B, T, D = array.shape
        filled = torch.nn.functional.pad(array, (0, 0, 0, self.count * self.steps - T))
        return filled.reshape(B, self.count, self.steps, D).permute(2, 1, 0, 3).reshape(self.steps, -1, D)

    def join(self, rows: torch.Tensor) -> torch.Tensor:
        """[steps, count * B, D] -> [B, T, D]."""
        D = rows.shape[2]
        joined = rows.reshape(self.steps, self.count, self.B, D).permute(2, 1, 0, 3).reshape(self.B, -1, D)
        return joined[:, : self.T].contiguous()

    def before_each(self, array: torch.Tensor) -> torch.Tensor:
        """[B, T, D] -> [(count - 1) * B, D]: the step before each chunk but the first."""
        return array[:, self.steps - 1 : self.T - 1 : self.steps].transpose(0, 1).flatten(0, 1)


def default_steps(B: int, T: int) -> int:
    """As many steps a chunk as give at most `MOST_ROWS` rows, but no fewer than `FEWEST_STEPS`."""
    return max(FEWEST_STEPS, -(-B * T // MOST_ROWS))
