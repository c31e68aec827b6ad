"""What do the recurrences that must take one step after another share?"""

import torch

from ._precision import arithmetic_dtype


def time_steps(array: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the T contiguous [B, D] steps of [B, T, D] in the arithmetic dtype.

    They are cut in one `unbind`: its gradient is one stack, where that of T separate indexings would be T arrays
    of the full size.
    """
    return array.transpose(0, 1).to(arithmetic_dtype(array.dtype)).contiguous().unbind(0)


def join_steps(states: list[torch.Tensor], storage: torch.dtype) -> torch.Tensor:
    """Return the [B, D] states of at least one step as [B, T, D] in the storage dtype."""
    return torch.stack(states, dim=1).to(storage)


def zero_of(*arrays: torch.Tensor) -> torch.Tensor:
    """Return the number 0 with a gradient of zeros for every array: their empty sums.

    Added to a result, it makes arguments that do not influence the result get zeros for a gradient and not None.
    Unlike 0 * array it is 0 for infinite and NaN arrays too.
    """
    return torch.stack([array[:0].sum() for array in arrays]).sum()
