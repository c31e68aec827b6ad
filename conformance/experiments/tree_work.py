"""EXP-5: a work-efficient scan (Blelloch), O(N log N) work and O(log N) depth, forwards and backwards (S2 L456-464).

Both trees of the reference count their combines and levels at powers of two and beside them, on whole numbers, whose
sums are exact. The reverse scan is the same tree on flipped time.
"""

import operator
from collections.abc import Callable
from itertools import accumulate
from typing import Any

from mmrec.conformance.experiments._finding import finding
from mmrec.reference.scan_trees import Cost, step_efficient, work_efficient

LONGEST = 32768


def run(profile: str) -> dict[str, Any]:
    most = 16 if profile == "full" else 13
    lengths = sorted({n for k in range(1, most) for n in (2**k - 1, 2**k, 2**k + 1) if n > 1} | {LONGEST, LONGEST // 2})
    forwards = {n: count(blelloch, n) for n in lengths}
    backwards = {n: count(blelloch, n, flipped=True) for n in lengths}
    efficient, other, half = forwards[LONGEST], count(hillis_steele, LONGEST), forwards[LONGEST // 2]
    growth = efficient.combines / half.combines
    growth_of_the_bound = 2 * levels_of(LONGEST) / levels_of(LONGEST // 2)
    statements = {
        "forwards: at most 3 N log2 N combines":
            all(cost.combines <= 3 * n * levels_of(n) for n, cost in forwards.items()),
        "forwards: at most 2 log2 N + 1 levels":
            all(cost.levels <= 2 * levels_of(n) + 1 for n, cost in forwards.items()),
        "backwards: the same counts": backwards == forwards,
        # nearer to the growth of N log N than to that of N
        "the work grows like N log N, not slower": growth >= (growth_of_the_bound + 2) / 2,
    }  # fmt: skip
    found = (
        f"At {LONGEST} steps the work-efficient tree takes {efficient.combines - LONGEST:,} combines in its two sweeps "
        f"and {efficient.combines:,} with the level that makes it inclusive, in {efficient.levels} levels; the "
        f"step-efficient tree takes {other.combines:,} in {other.levels}. Doubling the length multiplies the work of "
        f"the first by {growth:.4f}, where N log N grows by {growth_of_the_bound:.4f}."
    )
    numbers = {
        "combines in two sweeps": efficient.combines - LONGEST, "combines, inclusive": efficient.combines,
        "levels": efficient.levels, "combines, step-efficient": other.combines, "levels, step-efficient": other.levels,
        "growth of the work per doubling": growth, "growth of N log N per doubling": growth_of_the_bound,
        "lengths counted": len(lengths), "reverse scan costs the same": backwards == forwards,
    }  # fmt: skip
    return finding("EXP-5", "a work-efficient scan with O(N log N) work and O(log N) depth, forwards and backwards",
                   statements, found, numbers)  # fmt: skip


def blelloch(elements: list[int]) -> tuple[list[int], Cost]:
    return work_efficient(elements, operator.add, 0)


def hillis_steele(elements: list[int]) -> tuple[list[int], Cost]:
    return step_efficient(elements, operator.add)


def count(tree: Callable[[list[int]], tuple[list[int], Cost]], n: int, flipped: bool = False) -> Cost:
    """What the tree spends on n elements; ArithmeticError when its sums are wrong."""
    elements = list(range(n))
    sums, cost = tree(elements[::-1] if flipped else elements)
    if sums != list(accumulate(elements[::-1] if flipped else elements)):
        raise ArithmeticError(f"the tree's sums of {n} elements are wrong")
    return cost


def levels_of(n: int) -> int:
    """ceil(log2 n)."""
    return (n - 1).bit_length()
