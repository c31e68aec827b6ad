"""Does the time-parallel evaluation return the loop's states, and say truly what it took?"""

import numpy as np
import pytest

from mmrec import spec
from mmrec.reference.gated_recurrence import gated_recurrence
from mmrec.reference.parallel_recurrence import gated_recurrence_in_parallel, stabilized_recurrence_in_parallel
from mmrec.reference.stabilized_recurrence import stabilized_recurrence

OPS = {
    "gated": (gated_recurrence, gated_recurrence_in_parallel),
    "stabilized": (stabilized_recurrence, stabilized_recurrence_in_parallel),
}


def arguments(op, T, D=3, gamma=0.05, weight=1.0, z=1.0, seed=0):
    """Of the stabilized recurrence beside those of the gated one: the logits of z, and a norm's weight and bias."""
    normal = np.random.default_rng(seed).standard_normal
    gated = z * normal((1, T, D)), np.full((1, T, D), gamma), weight * normal((D, D)), normal(D), normal((1, D))
    if op == "gated":
        return gated
    inputs, decay, W, b, h0 = gated
    return inputs, normal((1, T, D)), decay, W, b, 1 + 0.3 * normal(D), normal(D), h0


@pytest.mark.parametrize("chunk", (1, 5, 16, 40, 100))
@pytest.mark.parametrize("gamma", (0.0, 0.05, 0.9, 1.0))
@pytest.mark.parametrize("op", OPS)
def test_the_states_are_those_of_the_loop_bit_for_bit(op, chunk, gamma):
    """REC-PAR-1, REC-PAR-4: whatever the chunks, and whether the solver fell back or not."""
    given = arguments(op, T=83, gamma=gamma)
    loop, in_parallel = OPS[op]
    assert np.array_equal(in_parallel(*given, chunk).h, loop(*given))


@pytest.mark.parametrize(("norm", "clip"), (("rms", 1.5), ("layer", 100.0), ("none", 100.0), ("none", 1.5)))
def test_norm_and_clip_are_those_of_the_loop(norm, clip):
    """REC-PAR-1 with every form of REC-14 and a clip of REC-15 that binds."""
    given, options = arguments("stabilized", T=83, z=3.0), {"norm": norm, "clip": clip}
    assert np.array_equal(stabilized_recurrence_in_parallel(*given, 16, **options).h,
                          stabilized_recurrence(*given, **options))  # fmt: skip


@pytest.mark.parametrize("op", OPS)
def test_a_contracting_recurrence_takes_two_passes(op):
    """REC-PAR-2: the start of each chunk was wrong, and is forgotten within the chunk."""
    solution = OPS[op][1](*arguments(op, T=512, weight=0.1, z=10.0), chunk=128)
    assert (solution.passes, solution.fell_back) == (2, False)


@pytest.mark.parametrize("op", OPS)
def test_a_chaotic_recurrence_falls_back_after_three_passes(op):
    """REC-PAR-3."""
    solution = OPS[op][1](*arguments(op, T=256, D=8, gamma=0.999, weight=20.0), chunk=4)
    assert (solution.passes, solution.fell_back) == (4, True)


def test_the_examples_take_the_passes_that_the_clauses_say():
    for clause, passes in (("REC-PAR-1", 1), ("REC-PAR-2", 2)):
        example = spec.clauses()[clause].example
        given = [np.array(example[name]) for name in ("z", "gamma", "W_g", "b_g", "h0")]
        solution = gated_recurrence_in_parallel(*given, chunk=2)
        assert np.array_equal(solution.h, example["result"])
        assert solution.passes == passes
