"""Two parallel scan trees, counted: what "O(log n) depth" and "work-efficient" mean (SCAN-5, SCAN-23)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass
class Cost:
    """What a tree spent: how often it combined two elements, and in how many dependent levels."""

    combines: int = 0
    levels: int = 0


def step_efficient(elements: Sequence[Any], combine: Callable[[Any, Any], Any]) -> tuple[list[Any], Cost]:
    """Hillis-Steele inclusive scan: ceil(log2 n) levels, n log2 n - (n - 1) combines when n is a power of two.

    ``combine(left, right)`` means: first left, then right.
    """
    scanned, cost, distance = list(elements), Cost(), 1
    while distance < len(scanned):
        scanned = [combine(scanned[i - distance], x) if i >= distance else x for i, x in enumerate(scanned)]  # SCAN-5
        cost.combines += len(scanned) - distance
        cost.levels += 1
        distance *= 2
    return scanned, cost


def work_efficient(
    elements: Sequence[Any], combine: Callable[[Any, Any], Any], identity: Any
) -> tuple[list[Any], Cost]:
    """Blelloch inclusive scan: an up-sweep to partial results, a down-sweep that hands them out.

    2 (n - 1) combines in 2 log2 n levels when n is a power of two; the exclusive result is made inclusive by
    one more level of n combines, counted apart by nobody and therefore counted here.
    """
    n, cost = len(elements), Cost()
    size = 1
    while size < n:
        size *= 2
    tree = list(elements) + [identity] * (size - n)
    distance = 1
    while distance < size:  # up-sweep  SCAN-23
        for right in range(2 * distance - 1, size, 2 * distance):
            tree[right] = combine(tree[right - distance], tree[right])
            cost.combines += 1
        cost.levels += 1
        distance *= 2
    if size:
        tree[-1] = identity
    distance = size // 2
    while distance >= 1:  # down-sweep  SCAN-23
        for right in range(2 * distance - 1, size, 2 * distance):
            tree[right - distance], tree[right] = tree[right], combine(tree[right], tree[right - distance])
            cost.combines += 1
        cost.levels += 1
        distance //= 2
    if n:
        cost.combines += n
        cost.levels += 1
    return [combine(before, x) for before, x in zip(tree, elements, strict=False)], cost  # inclusive again
