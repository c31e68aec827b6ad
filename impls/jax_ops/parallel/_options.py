"""What may a caller choose: how long a chunk is, and how much of a rounding a splice may use?"""

from .._checks import check_number


def check_options(chunk: int | None, tolerance: float) -> None:
    """Raise TypeError or ValueError unless a chunk has a step and a splice errs by no more than a step may."""
    check_number("tolerance", tolerance, zero_allowed=True)
    if tolerance > 1:
        raise ValueError(f"tolerance: {tolerance} is greater than 1: a splice would err more than a step may")
    if chunk is not None and (isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1):
        raise ValueError(f"chunk: {chunk!r} is not a whole number of at least 1 step")
