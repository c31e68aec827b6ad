"""Does a plan follow from the ops and the built-in subjects, and is the order what memory and budgets need?"""

import pytest

from mmrec.benchmarks import implementations as module
from mmrec.benchmarks.cases import DIRECTIONS, Lengths, measures_to_compile
from mmrec.benchmarks.implementations import BASELINE, Implementation, implementations
from mmrec.benchmarks.peers import PEERS, peer_cases, peer_of
from mmrec.benchmarks.plans import PLANS, REGIMES, SCALING, in_order, only, plan_cases, scaling_cases
from mmrec.benchmarks.work import draw_of
from mmrec.conformance.ops import all_ops
from mmrec.conformance.subjects import BUILT_IN

KINDS = ("cpu", "cuda")


def every_case(kind):
    return in_order([*plan_cases(kind), *scaling_cases(kind), *peer_cases(kind)])


@pytest.mark.parametrize("kind", KINDS)
def test_every_op_of_every_built_in_subject_is_timed_in_both_directions(kind):
    timed = {(case.op, case.implementation, case.direction) for case in plan_cases(kind)}

    assert timed == {(op, name, direction) for name in BUILT_IN for op in implementations()[name].timed_ops
                     for direction in DIRECTIONS}  # fmt: skip
    assert {op for op, _, _ in timed} == set(all_ops())


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_unique_and_the_baseline_is_the_first_of_its_group(kind):
    cases = every_case(kind)
    first = {}
    for case in cases:
        first.setdefault((case.group, case.scaling), case.implementation)

    assert len({str(case) for case in cases}) == len(cases)
    assert set(first.values()) == {BASELINE}


@pytest.mark.parametrize("kind", KINDS)
def test_peers_are_timed_with_ours_and_first_sizes_before_second_ones(kind):
    cases = every_case(kind)
    sizes = [size.lengths for size in PLANS[kind].scans]
    firsts = {op: PLANS[kind].of(row)[0].lengths for op, row in all_ops().items()}
    keys = [(True,) if case.scaling else
            (False, measures_to_compile(case), case.lengths != firsts[case.op], case.framework == "jax")
            for case in cases]  # fmt: skip
    scans = [case for case in cases if case.op == "linear_recurrence" and not case.scaling and case.framework != "jax"]
    places = [sizes.index(case.lengths) for case in scans]

    assert keys == sorted(keys)
    assert places == sorted(places)
    for group in {case.group for case in scans}:
        ours_or_not = [case.peer for case in scans if case.group == group]
        assert ours_or_not == sorted(ours_or_not)


def test_chosen_implementations_come_with_the_peers_of_their_framework():
    cases = every_case("cuda")

    chosen = only(cases, ["triton"])

    assert {case.implementation for case in chosen if not case.peer} == {"triton"}
    assert {case.framework for case in chosen if case.peer} == {"torch"}
    assert only(cases, []) == cases
    with pytest.raises(ValueError, match="--implementation: nobody: there is none; expected some of torch"):
        only(cases, ["nobody"])


def test_a_subject_with_one_op_is_timed_on_that_op_and_one_that_is_missing_on_all(monkeypatch):
    some = {"torch": Implementation("torch", "torch", dict.fromkeys(all_ops())),
            "solver": Implementation("solver", "torch", {"gated_recurrence": abs}),
            "absent": Implementation("absent", missing="absent: no such module")}  # fmt: skip
    monkeypatch.setattr("mmrec.benchmarks.plans.implementations", lambda: some)

    cases = list(plan_cases("cuda"))

    assert {case.op for case in cases if case.implementation == "solver"} == {"gated_recurrence"}
    assert {case.op for case in cases if case.implementation == "absent"} == set(all_ops())


def test_the_reason_of_a_missing_subject_is_what_its_loading_said(monkeypatch):
    monkeypatch.setitem(BUILT_IN, "nobody", "mmrec.impls.nobody_ops")
    implementations.cache_clear()

    assert "nobody: cannot be imported: No module named 'mmrec.impls.nobody_ops'" in module.missing_here(
        "nobody", "cpu"
    )
    implementations.cache_clear()


def test_triton_is_not_timed_on_a_cpu():
    assert "interpreted" in module.missing_here("triton", "cpu")


def test_the_acceptance_sizes_are_in_the_plan():
    scans = {(size.lengths.B, size.lengths.D, size.lengths.T): size.dtypes for size in PLANS["cuda"].scans}

    assert set(scans) == {(1, 4096, 32768), (8, 1024, 32768), (16, 2048, 4096), (1, 1024, 131072)}
    assert set(scans.values()) == {("float32", "bfloat16")}
    assert Lengths(1, 32768, 4096) in [size.lengths for size in PLANS["cuda"].recurrences]


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("op", ["gated_recurrence", "stabilized_recurrence"])
def test_a_regime_s_decays_lie_around_its_own_and_never_reach_0_or_1(op, regime):
    case = next(case for case in plan_cases("cuda") if case.op == op and case.regime == regime)

    kind, low, high = draw_of(case.row, "gamma", case)

    assert kind == "uniform" and 0 < low < REGIMES[regime].decay < high < 1
    assert draw_of(case.row, "z", case) == ("normal", 0.0, REGIMES[regime].scale)
    assert draw_of(case.row, "h0", case) == ("normal", 0.0, 1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_no_argument_is_drawn_as_zeros(kind):
    for case in plan_cases(kind):
        for name in case.row.arguments:
            draw, low, high = draw_of(case.row, name, case)
            assert low < high if draw == "uniform" else high > 0


@pytest.mark.parametrize("kind", KINDS)
def test_points_of_scaling_differ_from_their_base_in_one_letter(kind):
    for scaling in SCALING[kind]:
        points = scaling.points()

        assert len(points) == len(set(points)) and scaling.base in points
        for point in points:
            assert sum(getattr(point, axis) != getattr(scaling.base, axis) for axis in "BTDE") <= 1
        for axis, lengths in scaling.axes.items():
            assert getattr(scaling.base, axis) in lengths


def test_every_peer_is_found_again_and_has_an_op_of_ours():
    for kind in KINDS:
        for case in peer_cases(kind):
            assert peer_of(case).op == case.op and kind in peer_of(case).kinds

    assert len({(peer.name, peer.op, peer.layout) for peer in PEERS}) == len(PEERS)
    assert {peer.op for peer in PEERS} <= set(all_ops())
