"""Is every channel and batch row walked by one program, however wide, and are all programs resident at once?"""

import itertools
import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

from mmrec.impls.triton_ops._walk import ROOM, TILE, division

SHAPES = list(itertools.product((1, 2, 3, 5, 16, 17, 300), (129, 1000, 1024, 4096, 5000, 16384)))
KINDS = ({}, {"vectors": 2}, {"operands": 3})


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("processors", (1, 40, 108, 132))
@pytest.mark.parametrize("itemsize", (2, 4, 8))
def test_the_division_gives_each_channel_and_row_to_one_program_of_a_resident_team(itemsize, processors, kind):
    for B, D in SHAPES:
        (programs, teams), turns, options = division(B, D, itemsize, processors, **kind)
        rows, abreast = options["GROUPS"] * options["ROWS"], options["ABREAST"]
        assert (programs - 1) * rows < D <= programs * rows
        assert (turns - 1) * teams * abreast < B <= turns * teams * abreast
        assert options["FULL"] == (turns * teams * abreast == B)
        assert programs * teams <= processors
        assert options["GROUPS"] % options["SUMMED"] == 0


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("itemsize", (2, 4, 8))
def test_what_a_program_holds_fits_in_its_registers(itemsize, kind):
    for B, D in SHAPES:
        _, _, options = division(B, D, itemsize, 132, **kind)
        tile = options["ROWS"] * options["BLOCK_K"] * itemsize
        operand = options["BLOCK_K"] * max(4, itemsize)
        assert options["ROWS"] == 1 or tile <= TILE
        if options["HELD"] or options["ABREAST"] > 1:
            operands = options["ABREAST"] * kind.get("operands", 1) + kind.get("vectors", 0)
            assert options["HELD"] * tile + operands * operand <= ROOM


def test_more_batch_rows_are_walked_abreast_and_side_by_side_as_long_as_the_matrix_stays_in_the_caches():
    def found(B, D):
        grid, turns, options = division(B, D, 2, 132)
        return grid, turns, options["ABREAST"]

    assert found(1, 1024) == ((128, 1), 1, 1)
    assert found(16, 1024) == ((32, 4), 1, 4)
    assert found(64, 1024) == ((8, 16), 1, 4)
    assert found(16, 4096) == ((128, 1), 4, 4)
