"""Does the one command judge, time and write, in this order, and does it stop where the judge gives no verdict?"""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from mmrec.benchmarks import __main__ as command
from mmrec.benchmarks.judgement import environment
from mmrec.conformance import timings
from mmrec.conformance.subjects import BUILT_IN
from mmrec.conformance.tests.test_report import document_of, record
from mmrec.conformance.tests.test_speeds import ROWS, document


@pytest.fixture
def children(monkeypatch, tmp_path):
    """What would be started; each child writes what the real one does and ends with its code."""
    calls, codes = [], {"mmrec.conformance": 0, "pytest": 0}

    def run(module, *arguments):
        calls.append((module, arguments))
        if module == "mmrec.conformance":
            (tmp_path / "result.json").write_text(json.dumps(document_of([record()])))
        else:
            timings.save(
                {name: value for name, value in document(*ROWS).items() if name != "schema"},
                tmp_path / "benchmarks.json",
            )
        return codes[module]

    monkeypatch.setattr(command, "run", run)
    monkeypatch.setattr(command, "subjects_here", lambda: ["torch", "jax"])
    monkeypatch.setattr(sys, "argv", ["benchmarks", f"--out={tmp_path}", "--profile", "quick", "--", "-k", "gated"])
    return calls, codes


def test_it_judges_then_times_then_writes_page_and_table(children, tmp_path):
    calls, _ = children

    assert command.main() == 0

    (judge, judged), (timer, timed) = calls
    assert (judge, judged[:3]) == ("mmrec.conformance", ("verify", "torch", "jax")) and "--profile=quick" in judged
    assert (
        timer == "pytest"
        and f"--result={tmp_path / 'result.json'}" in timed
        and timed[-3:] == ("--scaling", "-k", "gated")
    )
    assert 'id="speeds"' in (tmp_path / "report.html").read_text()
    assert "**linear_recurrence**" in (tmp_path / "benchmarks.md").read_text()


def timed_with(calls):
    return next(arguments for module, arguments in calls if module == "pytest")


def test_what_judging_takes_of_a_budget_is_not_left_for_timing(monkeypatch, children):
    calls, _ = children
    clock = iter([1000.0, 1100.0])  # judging takes 100 s
    monkeypatch.setattr(command, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(sys, "argv", [*sys.argv[:2], "--budget", "500"])

    assert command.main() == 0
    assert f"--budget={500 - 100 - command.ENDING:.0f}" in timed_with(calls)


@pytest.mark.parametrize("budget", ["-1", "0", "30", "nan", "inf"])
def test_a_budget_in_which_nothing_can_be_timed_is_refused_before_anything_is_judged(
    monkeypatch, children, capsys, budget
):
    monkeypatch.setattr(sys, "argv", [*sys.argv[:2], f"--budget={budget}"])

    assert command.main() == 2 and not children[0]
    assert f"--budget: {budget} is no time" in capsys.readouterr().err


def test_a_budget_that_judging_spends_is_an_error(monkeypatch, children, capsys):
    clock = iter([1000.0, 1490.0])
    monkeypatch.setattr(command, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(sys, "argv", [*sys.argv[:2], "--budget", "500"])

    assert command.main() == 1
    assert [module for module, _ in children[0]] == ["mmrec.conformance"]
    assert "--budget: judging left none of the 500 s" in capsys.readouterr().err


def test_a_run_in_which_nothing_was_timed_is_an_error(monkeypatch, children, tmp_path, capsys):
    judge = command.run
    monkeypatch.setattr(command, "run", lambda module, *rest: judge(module, *rest) if module != "pytest" else 0)

    assert command.main() == 1
    assert "nothing was timed" in capsys.readouterr().err


def test_without_a_budget_the_device_s_own_holds(children):
    calls, _ = children

    assert command.main() == 0
    assert not any(argument.startswith("--budget") for argument in timed_with(calls))


def test_one_subject_is_judged_and_timed_and_an_unknown_one_refused(monkeypatch, children, capsys):
    calls, _ = children
    monkeypatch.setattr(sys, "argv", [*sys.argv[:2], "--subject", "jax"])

    assert command.main() == 0
    assert calls[0][1][:2] == ("verify", "jax") and "torch" not in calls[0][1]
    assert "--implementation=jax" in timed_with(calls)

    monkeypatch.setattr(sys, "argv", [*sys.argv[:2], "--subject", "nobody"])
    assert command.main() == 2
    assert "--subject: nobody cannot be timed here; here are torch, jax" in capsys.readouterr().err


def test_a_place_where_nothing_can_be_written_is_refused_before_anything_is_judged(
    monkeypatch, children, tmp_path, capsys
):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(sys, "argv", ["benchmarks", f"--out={tmp_path / 'file'}"])

    assert command.main() == 2 and not children[0]
    assert f"--out: {tmp_path / 'file'} cannot be made" in capsys.readouterr().err


def test_who_is_left_out_is_told_with_the_reason(capfd):
    here = command.subjects_here()

    left_out = [line for line in capfd.readouterr().err.splitlines() if " is left out: " in line]
    assert "torch" in here and len(here) + len(left_out) == len(BUILT_IN)


@pytest.mark.parametrize("module", ["mmrec.conformance", "pytest"])
def test_a_failure_of_either_is_its_exit_code_and_the_rest_is_written(children, tmp_path, module):
    children[1][module] = 1

    assert command.main() == 1
    assert (tmp_path / "benchmarks.md").is_file()


def test_without_a_result_nothing_is_timed_and_no_old_file_passes_for_new(monkeypatch, children, tmp_path, capsys):
    (tmp_path / "result.json").write_text("of yesterday")
    asked = []
    monkeypatch.setattr(command, "run", lambda module, *arguments: asked.append(module) or 2)

    assert command.main() == 2
    assert asked == ["mmrec.conformance"]
    assert not (tmp_path / "result.json").exists()
    assert "nothing may be timed" in capsys.readouterr().err


TIMED = """
import time

def test_sleep(benchmark):
    benchmark.pedantic(time.sleep, args=(SECONDS,), rounds=3)
"""


def test_a_run_that_is_slower_than_the_one_before_fails_without_a_traceback(tmp_path):
    pytest.importorskip("pytest_benchmark")

    def timed(seconds, *arguments):
        (tmp_path / "test_sleep.py").write_text(TIMED.replace("SECONDS", str(seconds)))
        command = [sys.executable, "-m", "pytest", "-q", "-p", "mmrec.benchmarks.conftest", "test_sleep.py", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)

    assert timed(0.001, "--benchmark-save=before").returncode == 0
    ran = timed(0.1, "--benchmark-compare=0001", "--benchmark-compare-fail=min:100%")
    assert ran.returncode == pytest.ExitCode.TESTS_FAILED
    assert "benchmarks: Performance has regressed" in ran.stderr + ran.stdout
    assert "Traceback" not in ran.stderr + ran.stdout


def test_the_children_know_the_judge_s_plugin_without_its_installation(monkeypatch):
    from mmrec.conformance import plugin

    monkeypatch.setattr(plugin, "entry_points", lambda group: [])
    assert plugin.arguments() == ["-p", "mmrec.conformance.plugin"]
