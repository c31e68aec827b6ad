"""The gate on three prepared changes of another project's kernel: each ends as it should, and for the right reason."""

import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmrec.conformance.cli import app
from mmrec.conformance.gate import WrongCall
from mmrec.conformance.gate.findings import Findings
from mmrec.conformance.gate.judged import failure_of, verdict_of
from mmrec.conformance.gate.offers import offers
from mmrec.conformance.gate.revisions import Change, change_since, checkout, repository_of, tree_at
from mmrec.conformance.gate.run import Call, has_gpu, revision, rewrite_figures, run, weigh_kernels
from mmrec.conformance.gate.sections import sections
from mmrec.conformance.gate.touched import touched_by
from mmrec.conformance.tests.test_forward_only import NUMPY

HERE = Path(__file__).resolve().parent
pytestmark = pytest.mark.skipif(
    shutil.which("git") is None, reason="git is not installed: the gate asks it what changed"
)


def git(place, *arguments):
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    command = ["git", *identity, "-C", str(place), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def project(tmp_path):
    """A repository with one commit: a kernel and the subject that offers it."""
    for file in (HERE / "gate_project").glob("*.py"):
        shutil.copy(file, tmp_path)
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "base")
    return tmp_path


def gated(project, change):
    git(project, "apply", str(HERE / "gate_changes" / f"{change}.patch"))
    pytest.importorskip("triton")
    call = Call(base="main", subjects=("my_kernels.py",), dtypes=("float32",), bench=has_gpu(), place=project)
    findings = run(call)
    (touched,) = findings.touched
    assert touched.by_code == ["linear_recurrence"] and touched.kernels == ["scan.py"]
    return findings, list(findings.failures())


def test_a_harmless_refactoring_passes(project):
    findings, failures = gated(project, "harmless")
    assert not failures
    assert all(verdict.conforms and verdict.examples for verdict in findings.verdicts)
    assert len(findings.rows) == 2 and {row.source for row in findings.rows} == {"base"}


def test_a_kernel_that_does_more_fails_by_its_compiled_figures_and_on_a_gpu_by_its_time(project):
    findings, failures = gated(project, "slower")
    assert {part for part, _ in failures} == ({"kernels", "speed"} if has_gpu() else {"kernels"})
    kernels = [why for part, why in failures if part == "kernels"]
    assert len(kernels) == 2 and all("instructions a turn" in why for why in kernels)
    assert all(row.now["per_turn"] > 1.2 * row.before["per_turn"] for row in findings.rows)


def test_a_wrong_carry_at_a_block_edge_fails_by_its_clauses(project):
    _, failures = gated(project, "wrong_carry")
    assert {part for part, _ in failures} == {"conformance"}
    assert any("OUT_OF_BOUND MDI-1" in why for _, why in failures)
    assert any("OUT_OF_BOUND ADJ-4" in why for _, why in failures)


UNCHECKED = NUMPY.replace('"mine"', '"unchecked"')


@pytest.mark.parametrize(("sign", "new"), [("+", []), ("-", ["MDI-1"])])
def test_what_failed_at_the_base_is_told_and_only_what_is_new_fails(project, sign, new):
    (project / "mine.py").write_text(UNCHECKED)
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", "mine")
    (project / "mine.py").write_text(UNCHECKED.replace("+ b[:, t]", f"{sign} b[:, t]  # a comment"))
    findings = run(Call(base="main", subjects=("mine.py",), dtypes=("float32",), place=project))
    (verdict,) = findings.verdicts
    assert ["CONV-9" in failure for failure in verdict.also_at_base] == [True]
    assert not any("CONV-9" in failure for failure in verdict.failures) and bool(verdict.failures) == bool(new)
    assert all(any(clause in failure for failure in verdict.failures) for clause in new)
    changed, *_, conclusion = sections(findings)
    assert conclusion.title.startswith("FAIL: conformance" if new else "PASS: nothing new stands against")
    assert any("1 check fails at the base, too" in line for line in conclusion.lines)
    assert any({"CONV-9", "MDI-1"} <= set(line.removeprefix("clauses judged: ").split(", ")) for line in changed.lines)


# ---- what the subjects offer --------------------------------------------------------------------

SUBJECT = """
def op(gamma, initial): ...

SUBJECT = {"name": "mine", "framework": "numpy", "ops": {"decay_product": op, "decay_product_exact": op}}
"""
MINE = {"mine.py": SUBJECT}


def offered(project, base, now):
    """The offer of mine.py, after these files of the base gave way to those of now."""
    for name, text in base.items():
        (project / name).write_text(text)
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", "mine")
    for name in base:
        (project / name).unlink()
    for name, text in now.items():
        (project / name).write_text(text)
    change = change_since(project, "main")
    with checkout(project, change.commit) as old, revision(tree_at(project)) as now, revision(old) as before:
        (offer,) = offers(["mine.py"], change.files, now, before, project)
        return offer, touched_by(change.files, offer, now.imports, before.imports) if not offer.missing else None


def test_an_op_that_is_gone_is_told(project):
    offer, touched = offered(project, MINE, {"mine.py": SUBJECT.replace(', "decay_product_exact": op', "")})
    assert offer.dropped == ["decay_product_exact"] and touched.by_code == ["decay_product"]


def test_an_op_that_moved_still_reaches_the_file_that_it_left(project):
    base = {"mine.py": "from here import SUBJECT", "here.py": SUBJECT}
    moved = {"mine.py": "from there import SUBJECT", "there.py": SUBJECT}
    offer, touched = offered(project, base, moved)
    assert not offer.dropped and set(touched.because) == {"mine.py", "here.py", "there.py"}


def test_a_module_that_does_not_offer_its_kernels_any_more_is_told(project):
    pytest.importorskip("triton")
    base = {"mine.py": SUBJECT + "def compile_specs(): return []"}
    _, touched = offered(project, base, MINE)
    assert touched.kernels == [] and touched.kernels_before == ["mine.py"]
    with revision(tree_at(project)) as now:
        findings = Findings(Change("main", "", ("mine.py",)), everything=False, touched=[touched])
        weigh_kernels(Call(), project, now, now, findings, print)
    assert findings.notes == ["kernels that are not compiled any more: mine.py"] and not findings.rows


def test_where_there_are_no_kernels_nothing_is_compiled(project):
    (project / "mine.py").write_text(SUBJECT)
    said = []
    with pytest.raises(WrongCall, match="nothing is stored: no module of the subjects offers"):
        rewrite_figures(Call(subjects=("mine.py",), place=project), said.append)
    assert said == ["mine has no Triton kernels: nothing to compile"]


def test_a_change_after_which_a_subject_cannot_be_loaded_fails(project):
    offer, _ = offered(project, MINE, {"mine.py": SUBJECT + "raise RuntimeError('boom')"})
    assert offer.broken and not offer.dropped
    findings = run(Call(base="main", subjects=("mine.py",), place=project))
    ((part, why),) = findings.failures()
    assert part == "loading" and "mine.py can no longer be loaded" in why and "boom" in why


def test_a_subject_that_could_never_be_loaded_is_a_wrong_call(project):
    (project / "mine.py").write_text("raise RuntimeError('boom')")
    with pytest.raises(WrongCall, match="boom"):
        run(Call(base="main", subjects=("mine.py",), place=project))


# ---- what git says ------------------------------------------------------------------------------


def test_a_change_is_all_that_differs_from_where_it_began(project):
    git(project, "checkout", "-q", "-b", "work")
    (project / "committed.py").write_text("x = 1\n")
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", "work")
    git(project, "checkout", "-q", "main")
    (project / "theirs.py").write_text("x = 1\n")
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", "theirs")
    git(project, "checkout", "-q", "work")
    (project / "new.py").write_text("x = 1\n")
    (project / "scan.py").unlink()
    change = change_since(project, "main")
    assert change.files == ("committed.py", "new.py", "scan.py")
    with checkout(project, change.commit) as base:
        assert base.files == ("my_kernels.py", "scan.py")
    assert not base.root.exists() and "gate-" not in git(project, "worktree", "list")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--base", "no-such"], "--base: 'no-such' is no revision"),
        (["--base", "main", "--subject", "missing.py"], "--subject: missing.py: no such file"),
        (["--base", "main", "--subject", "no.such"], "--subject: no.such: no such module"),
        (["--base", "main"], "--subject: none given"),
        (["--base", "main", "--dtype", "int8"], "--dtype: 'int8' is not one of"),
        (["--base", "main", "--cpu-bench", "--no-bench"], "only one of them"),
        (["--base", "main", "--figures", "missing.json"], "--figures: missing.json: no such file"),
        (["--base", "main", "--markdown", "scan.py/page.md"], "--markdown: scan.py cannot be made"),
    ],
)
def test_a_wrong_call_is_refused_in_one_line(project, monkeypatch, arguments, named):
    monkeypatch.chdir(project)
    result = CliRunner().invoke(app, ["gate", *arguments])
    message = [line for line in result.stderr.strip().splitlines() if not line.startswith("gate: ")]
    assert result.exit_code == 2 and len(message) == 1 and named in message[0]


def test_no_repository_is_refused(tmp_path):
    with pytest.raises(WrongCall, match="is not in a git repository"):
        repository_of(tmp_path)


@pytest.mark.parametrize(("budget", "held_against_it"), [(40.0, True), ("inf", False)])
def test_a_result_that_missed_its_bound_before_may_miss_it_by_more(budget, held_against_it):
    failing = {
        "op": "linear_recurrence", "dtype": "float32", "check": "c", "verdict": "OUT_OF_BOUND", "left_out": "",
        "budget": budget, "examples": 1, "clauses": ["MDI-1"], "worst": {}, "replay": "",
    }  # fmt: skip
    verdict = verdict_of("mine", "linear_recurrence", [failing], "", {failure_of(failing)})
    assert bool(verdict.failures) is held_against_it and bool(verdict.also_at_base) is not held_against_it
