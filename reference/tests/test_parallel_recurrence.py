"""Does the time-parallel evaluation return the loop's states, and say truly what it took?"""

import numpy as np
import pytest

from mmrec import spec
from mmrec.reference.gated_recurrence import gated_recurrence
from mmrec.reference.parallel_recurrence import gated_recurrence_in_parallel


def arguments(T, D=3, gamma=0.05, weight=1.0, seed=0):
    rng = np.random.default_rng(seed)
    z, h0 = rng.standard_normal((1, T, D)), rng.standard_normal((1, D))
    return z, np.full((1, T, D), gamma), weight * rng.standard_normal((D, D)), rng.standard_normal(D), h0


@pytest.mark.parametrize("chunk", (1, 5, 16, 40, 100))
@pytest.mark.parametrize("gamma", (0.0, 0.05, 0.9, 1.0))
def test_the_states_are_those_of_the_loop_bit_for_bit(chunk, gamma):
    """REC-PAR-1, REC-PAR-4: whatever the chunks, and whether the solver fell back or not."""
    given = arguments(T=83, gamma=gamma)
    assert np.array_equal(gated_recurrence_in_parallel(*given, chunk).h, gated_recurrence(*given))


def test_a_contracting_recurrence_takes_two_passes():
    """REC-PAR-2: the start of each chunk was wrong, and is forgotten within the chunk."""
    solution = gated_recurrence_in_parallel(*arguments(T=256, weight=0.1), chunk=32)
    assert (solution.passes, solution.fell_back) == (2, False)


def test_a_chaotic_recurrence_falls_back_after_three_passes():
    """REC-PAR-3."""
    solution = gated_recurrence_in_parallel(*arguments(T=256, D=8, gamma=0.999, weight=20.0), chunk=4)
    assert (solution.passes, solution.fell_back) == (4, True)


def test_the_examples_take_the_passes_that_the_clauses_say():
    for clause, passes in (("REC-PAR-1", 1), ("REC-PAR-2", 2)):
        example = spec.clauses()[clause].example
        given = [np.array(example[name]) for name in ("z", "gamma", "W_g", "b_g", "h0")]
        solution = gated_recurrence_in_parallel(*given, chunk=2)
        assert np.array_equal(solution.h, example["result"])
        assert solution.passes == passes
