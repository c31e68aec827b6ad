"""Are peers held against the bound of their op, and is a wrong one told from a right one?"""

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest

from mmrec.benchmarks import cuda_graph, peer_check
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


@pytest.fixture
def replayed_here(monkeypatch):
    """CUDA graphs without CUDA: what was recorded is run again, step by step."""
    torch = pytest.importorskip("torch")
    stream = SimpleNamespace(wait_stream=lambda other: None)
    fakes = {"Stream": lambda: stream, "current_stream": lambda: stream, "CUDAGraph": SimpleNamespace,
             "stream": nullcontext, "graph": nullcontext}  # fmt: skip
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)

    def recorded(*shape):
        steps = cuda_graph.RecordedSteps(*shape)
        steps.graph.replay = lambda: [steps._step(t) for t in range(steps.steps)]
        return steps

    monkeypatch.setattr(cuda_graph, "_recorded", recorded)
    monkeypatch.setattr(cuda_graph, "MOST_STEPS", 32)


def test_the_loop_in_a_graph_carries_its_state_from_window_to_window(replayed_here):
    loop = peer("torch loop in a CUDA graph", "gated_recurrence")

    assert check(loop, "float32", "forward", "decay0.9", "cpu").budget <= 1
    assert not check(loop, "bfloat16", "forward", "decay0.9", "cpu").wrong


def test_the_loop_in_a_graph_refuses_a_length_it_would_cut(replayed_here):
    torch = pytest.importorskip("torch")
    z, W, b, h0 = torch.ones(1, 33, 2), torch.ones(2, 2), torch.ones(2), torch.ones(1, 2)

    with pytest.raises(ValueError, match="T is 33, expected at most 32 or a multiple of it"):
        cuda_graph.gated_loop(z, z, W, b, h0, dim=1)
