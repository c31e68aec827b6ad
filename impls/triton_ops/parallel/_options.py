"""What may a caller choose: how long a chunk is, and how much of a rounding a splice may use?"""

import torch

from .._checks import check_number
from .._launch import cdiv
from ..rows._tiles import most_rows


def check_options(chunk: int | None, tolerance: float) -> None:
    """Raise TypeError or ValueError unless a chunk has a step and a splice errs by no more than a step may."""
    check_number("tolerance", tolerance, zero_allowed=True)
    if tolerance > 1:
        raise ValueError(f"tolerance: {tolerance} is greater than 1: a splice would err more than a step may")
    if chunk is not None and (isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1):
        raise ValueError(f"chunk: {chunk!r} is not a whole number of at least 1 step")


def check_rows(chunk: int | None, B: int, T: int, D: int, device: torch.device) -> None:
    """Raise ValueError unless all chunks advance at once; B rows do."""
    rows = most_rows(D, device)
    if chunk is not None and cdiv(T, min(chunk, T)) * B > rows:
        least = cdiv(T, rows // B)
        raise ValueError(
            f"chunk: {chunk} steps make more than the {rows} rows that fit this device: give at least {least}"
        )
