"""Does the command line say in one line what is wrong, with the exit code it promises?"""

import json
from importlib.metadata import PackageNotFoundError

import pytest
from typer.testing import CliRunner

from mmrec.conformance.cli import app
from mmrec.conformance.result import suite_version
from mmrec.conformance.tests.test_report import document_of, record
from mmrec.spec import clauses

runner = CliRunner()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["verify", "missing.py"], "missing.py: no such file"),
        (["verify", "no.such.module"], "no.such.module: no such module"),
        (["verify", "torch", "--profile", "hasty"], "'hasty' is not one of quick, gate, full"),
        (["verify", "torch", "--op", "softmax"], "'softmax' is not one of"),
        (["verify", "torch", "--dtype", "int8"], "'int8' is not one of"),
        (["verify", "torch", "--replay", "softmax/float32"], "unknown op 'softmax'"),
        (["report", "missing.json"], "missing.json: no such file"),
        (["spec", "show", "REC-999"], "'REC-999' is neither a clause nor an item"),
        (["spec", "list", "--chapter", "cooking"], "'cooking' is not one of"),
    ],
)
def test_a_wrong_call_is_refused_in_one_line(arguments, named):
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2
    message = result.stderr.strip()
    assert named in message and "\n" not in message


def test_a_file_without_subject_is_refused(tmp_path):
    path = tmp_path / "kernels.py"
    path.write_text("x = 1\n")
    result = runner.invoke(app, ["verify", str(path)])
    assert result.exit_code == 2 and "has no SUBJECT" in result.stderr


def test_a_result_that_is_none_is_refused(tmp_path):
    path = tmp_path / "result.json"
    path.write_text(json.dumps({"schema": 1}))
    result = runner.invoke(app, ["report", str(path)])
    assert result.exit_code == 2 and "is not a result file" in result.stderr


def test_the_spec_is_read_from_the_command_line():
    shown = runner.invoke(app, ["spec", "show", "MDI-1"])
    assert shown.exit_code == 0 and "linear_recurrence" in shown.stdout
    counted = runner.invoke(app, ["spec", "coverage"])
    assert counted.exit_code == 0 and "of 619 items answered" in counted.stdout
    open_item = runner.invoke(app, ["spec", "show", "MOE-1"])
    assert open_item.exit_code == 0 and "open:" in open_item.stdout


def test_in_a_pipe_every_clause_of_the_spec_is_one_line():
    listed = runner.invoke(app, ["spec", "list"]).stdout.splitlines()[2:]
    assert [line.split()[0] for line in listed] == list(clauses())
    for line, clause in zip(listed, clauses().values(), strict=True):
        assert line.rstrip().endswith(clause.title) and all(op in line for op in clause.ops)


def test_which_version_it_is():
    told = runner.invoke(app, ["--version"])
    assert told.exit_code == 0 and told.stdout == f"mmrec {suite_version()}\n"


@pytest.mark.parametrize(
    ("clause", "said"),
    [
        ("REC-1", "mine: ok 31 %"),
        ("MDI-1", "mine: not judged in this run"),
        ("REC-PAR-1", "No check of the judge bears REC-PAR-1: it is shown by the tests above."),
        ("REC-PAR-2", "is held to REC-1"),
        ("REC-PAR-3", "mine: ok 31 %"),
        ("NUM-1", "NUM-1: it is shown by the tests above."),
    ],
)
def test_where_a_subject_stands_is_always_said(tmp_path, clause, said):
    path = tmp_path / "result.json"
    path.write_text(json.dumps(document_of([record("mine", "gated_recurrence", clauses=["REC-1"])])))
    shown = runner.invoke(app, ["spec", "show", clause, "--result", str(path)])
    stands = shown.stdout.partition("where each subject stands")[2]
    assert said in " ".join(stands.split())


def test_a_tree_that_is_not_installed_says_so_in_its_results(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    assert suite_version() != "not installed"
    monkeypatch.setattr("mmrec.conformance.result.version", missing)
    assert suite_version() == "not installed"
