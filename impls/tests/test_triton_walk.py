"""Is every channel and batch row walked by one program, however wide, and are all programs resident at once?"""

import itertools
import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

from mmrec.impls.triton_ops._walk import REGISTERS, division

SHAPES = list(itertools.product((1, 2, 17, 300), (129, 1000, 1024, 4096, 5000, 16384)))


@pytest.mark.parametrize("processors", (1, 40, 108, 132))
@pytest.mark.parametrize("itemsize", (2, 4, 8))
def test_the_division_gives_each_channel_and_row_to_one_program_of_a_resident_team(itemsize, processors):
    for B, D in SHAPES:
        (programs, teams), turns, options = division(B, D, itemsize, processors)
        rows = options["GROUPS"] * options["ROWS"]
        assert (programs - 1) * rows < D <= programs * rows
        assert (turns - 1) * teams < B <= turns * teams
        assert programs * teams <= processors
        assert options["ONE_TEAM"] == (teams == 1)
        assert options["ROWS"] == 1 or options["ROWS"] * options["BLOCK_K"] * itemsize <= REGISTERS


def test_more_batch_rows_are_walked_side_by_side_as_long_as_the_matrix_stays_in_the_caches():
    assert division(1, 1024, 2, 132).grid == (128, 1)
    assert division(16, 1024, 2, 132).grid == (8, 16)
    assert division(16, 4096, 2, 132).grid == (128, 1)
