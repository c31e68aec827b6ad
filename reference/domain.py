"""What the reference refuses: mismatched shapes and values outside a clause's domain (CONV-9, CONV-10)."""

import numpy as np

from mmrec.reference.numbers import Numbers


def require_shapes(**shapes: tuple[Numbers, str]) -> None:
    """Raise ValueError unless every array has the shape its letters say, one length per letter.

    ``require_shapes(a=(a, "BTD"), h0=(h0, "BD"))``: rank, then lengths, compared with the first array that
    used the letter.
    """
    lengths: dict[str, tuple[int, str]] = {}
    for name, (array, letters) in shapes.items():
        if len(array.shape) != len(letters):
            raise ValueError(f"{name}: shape {array.shape} has rank {len(array.shape)}, expected [{','.join(letters)}]")
        for letter, length in zip(letters, array.shape, strict=True):
            expected, owner = lengths.setdefault(letter, (length, name))
            if length != expected:
                raise ValueError(f"{name}: shape {array.shape} does not match {owner}: {letter} is {expected}")


def require_range(name: str, array: Numbers, low: float, high: float) -> None:
    """Raise ValueError naming the first element outside [low, high]; NaN is outside every range."""
    outside = ~((array >= low) & (array <= high))
    if np.any(outside):
        index = tuple(int(i) for i in np.argwhere(outside)[0])
        raise ValueError(f"{name}{list(index)} = {array[index]} is outside [{low}, {high}]")
