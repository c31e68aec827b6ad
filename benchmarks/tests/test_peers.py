"""Are peers held against the bound of their op, and is a wrong one told from a right one?"""

from dataclasses import replace

import pytest

from mmrec.benchmarks import peer_check
from mmrec.benchmarks.cases import Lengths
from mmrec.benchmarks.peer_check import WRONG_BEYOND, check
from mmrec.benchmarks.peers import PEERS

HERE = [peer for peer in PEERS if "cpu" in peer.kinds]


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(peer_check, "LENGTHS", Lengths(2, 128, 3))
    check.cache_clear()
    yield
    check.cache_clear()


def peer(name, op, layout="BTD"):
    return next(peer for peer in PEERS if (peer.name, peer.op, peer.layout) == (name, op, layout))


@pytest.mark.parametrize("one", HERE, ids=lambda one: f"{one.name}, {one.op}, {one.layout}")
def test_peers_are_right_in_float32(one):
    pytest.importorskip(one.framework)
    for direction in one.directions:
        assert check(one, "float32", direction, "", "cpu").budget <= 1


def test_a_carry_dropped_between_blocks_is_wrong_forwards_and_backwards():
    torch = pytest.importorskip("torch")

    def in_blocks(gamma, dim):
        return torch.cat([part.cumprod(dim) for part in gamma.split(64, dim)], dim)

    wrong = replace(peer("torch.cumprod", "decay_product_exact", "BDT"), function=in_blocks)
    for direction in wrong.directions:
        assert check(wrong, "float32", direction, "", "cpu").wrong


def test_a_state_kept_in_bfloat16_is_wrong():
    pytest.importorskip("torch")

    assert check(peer("torch loop", "linear_recurrence"), "bfloat16", "forward", "", "cpu").budget > WRONG_BEYOND


def test_a_nan_is_wrong():
    torch = pytest.importorskip("torch")
    nothing = replace(peer("torch.cumsum", "log_decay_product"), function=lambda x, dim: torch.full_like(x, torch.nan))

    assert check(nothing, "float32", "forward", "", "cpu").wrong


def test_a_library_that_is_missing_is_named():
    assert replace(HERE[0], needs="no_such_library.scan").missing_here() == "no_such_library is not installed"
    assert replace(HERE[0], needs="").missing_here() == ""
