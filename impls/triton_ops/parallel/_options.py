"""What may a caller choose: how long a chunk is, and how much of a rounding a splice may use?"""

import torch
import triton

from ..rows._tiles import most_rows


def check_options(chunk: int | None, tolerance: float) -> None:
    """Raise ValueError unless a chunk has a step and a splice errs by no more than a step may."""
    if not 0 <= tolerance <= 1:
        raise ValueError(f"tolerance: {tolerance} is outside [0, 1]")
    if chunk is not None and (not isinstance(chunk, int) or chunk < 1):
        raise ValueError(f"chunk: {chunk!r} is not a whole number of at least 1 step")


def check_rows(chunk: int | None, B: int, T: int, D: int, device: torch.device) -> None:
    """Raise ValueError unless all chunks advance at once; B rows do."""
    rows = most_rows(D, device)
    if chunk is not None and triton.cdiv(T, min(chunk, T)) * B > rows:
        least = triton.cdiv(T, rows // B)
        raise ValueError(
            f"chunk: {chunk} steps make more than the {rows} rows that fit this device: give at least {least}"
        )
