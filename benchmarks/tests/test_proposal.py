"""Are thresholds made from measured runs as they are read, looser than every run by the slack and no more?"""

import sys

import pytest

from mmrec.benchmarks import proposal, thresholds
from mmrec.benchmarks.proposal import lines_of, replaced, section_of
from mmrec.conformance import timings

ROW = {
    "op": "linear_recurrence", "direction": "forward", "implementation": "triton", "shape": "B1-T8-D4",
    "size": "B1-T8-D4", "dtype": "float32", "share": 0.92, "ratio": 0.031, "peer": False, "scaling": False,
}  # fmt: skip


def document(*rows, kind="cuda", title="a GPU"):
    return {"created": "2026-01-02T03:04:05+00:00", "device": {"kind": kind, "title": title},
            "software": {"torch": "2.11"}, "rows": list(rows)}  # fmt: skip


def test_the_worst_run_counts_and_two_digits_are_rounded_to_the_looser_side():
    (line,) = lines_of([ROW, {**ROW, "share": 0.9, "ratio": 0.0333}], slack=1.0)

    assert line == '"linear_recurrence forward triton" = { share_at_least = 0.9, ratio_at_most = 0.034 }'


def test_sizes_that_differ_by_more_than_the_slack_have_a_line_each():
    few = {**ROW, "shape": "B1-T99-D1", "size": "B1-T99-D1", "share": 0.7}

    assert len(lines_of([ROW, few], slack=1.4)) == 1
    assert [line.partition(" =")[0] for line in lines_of([ROW, few], slack=1.2)] == [
        '"linear_recurrence forward triton B1-T8-D4"', '"linear_recurrence forward triton B1-T99-D1"']  # fmt: skip


def test_the_baseline_has_no_ratio():
    (line,) = lines_of([{**ROW, "implementation": "torch", "ratio": None}], slack=2.0)

    assert line == '"linear_recurrence forward torch" = { share_at_least = 0.46 }'


def test_the_file_keeps_other_devices_and_is_read_back_so_that_its_own_runs_pass(tmp_path):
    path = tmp_path / "thresholds.toml"
    other = '# a note\n\n[cpu]\nmeasured = "then"\n\n[cpu.float32]\n"x forward jax" = { ratio_at_most = 1.0 }\n'
    old = '\n[cuda]\nmeasured = "never"\n\n[cuda.float32]\n"y forward jax" = { ratio_at_most = 1.0 }\n'
    rows = [
        ROW,
        {**ROW, "peer": True, "share": 0.1},
        {**ROW, "scaling": True, "share": 0.1},
        {**ROW, "dtype": "bfloat16"},
    ]

    path.write_text(replaced(other + old, section_of([document(*rows)], slack=1.1)))
    found = thresholds.read(path)

    assert path.read_text().startswith(other)
    assert set(found["cuda"]) == {"float32", "bfloat16"} and "x forward jax" in found["cpu"]["float32"]
    assert list(found["cuda"]["float32"]) == ["linear_recurrence forward triton"]
    assert thresholds.misses([ROW], [], found["cuda"]) == []
    assert replaced(path.read_text(), section_of([document(*rows)], slack=1.1)) == path.read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["one.json", "two.json"], "different devices"), (["one.json", "--slack", "0.5"], "at least 1")],
)
def test_a_wrong_call_is_refused(monkeypatch, capsys, arguments, said):
    monkeypatch.setattr(timings, "read", lambda path: document(ROW, title=path.name))
    monkeypatch.setattr(sys, "argv", ["thresholds", *arguments])

    with pytest.raises(SystemExit) as left:
        proposal.main()

    assert left.value.code == 2
    assert said in capsys.readouterr().err
