"""Does an option of ours mean the same on both sides of `--`?"""

import sys

import pytest

from mmrec.conformance import cli
from mmrec.conformance.arguments import OURS, split
from mmrec.conformance.plugin import pytest_addoption

MINE = """
import numpy


def linear_recurrence(a, b, h0):
    return numpy.zeros_like(a)


SUBJECT = {"name": "mine", "framework": "numpy", "ops": {"linear_recurrence": linear_recurrence,
                                                         "decay_product": linear_recurrence}}
"""


@pytest.mark.parametrize(
    ("given", "ours", "theirs"),
    [
        ("verify torch", "verify torch", ""),
        ("verify torch -- -x -k values", "verify torch", "-x -k values"),
        ("verify torch -- --mmrec-op X -x", "verify torch --op X", "-x"),
        ("verify torch -- -x --mmrec-op=X", "verify torch --op X", "-x"),
        ("verify torch -- --mmrec-result there --mmrec-seed 3", "verify torch --out there --seed 3", ""),
        ("verify torch -- --mmrec-subject jax", "verify torch jax", ""),
        ("verify torch -- --mmrec-op", "verify torch --op", ""),
    ],
)
def test_after_the_dashes_ours_are_told_from_pytest_s(given, ours, theirs):
    assert split(given.split()) == (ours.split(), theirs.split())


def test_every_option_of_the_plugin_is_known():
    names = []

    class Group:
        def addoption(self, name, **how):
            names.append(name)

    class Parser:
        def getgroup(self, *what):
            return Group()

    pytest_addoption(Parser())
    assert sorted(names) == sorted(OURS)


def called(monkeypatch, *arguments):
    """The exit code of the command, and what pytest was started with."""
    started = []
    monkeypatch.setattr(sys, "argv", ["mmrec", *arguments])
    monkeypatch.setattr(cli, "PYTEST_ARGUMENTS", [])
    monkeypatch.setattr("pytest.main", lambda given: started.extend(given) or 0)
    with pytest.raises(SystemExit) as left:
        cli.main()
    return left.value.code, started


def test_one_op_after_the_dashes_is_the_only_one(monkeypatch, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    given = [
        "--mmrec-op",
        "linear_recurrence",
        "--mmrec-dtype=float32",
        "--mmrec-profile",
        "quick",
        "--mmrec-seed=7",
        "-x",
    ]
    code, started = called(monkeypatch, "verify", str(path), "--out", str(tmp_path), "--", *given)
    assert code == 0 and started[-1] == "-x"
    chosen = [
        one for one in started if one.startswith(("--mmrec-op", "--mmrec-dtype", "--mmrec-profile", "--mmrec-seed"))
    ]
    assert sorted(chosen) == ["--mmrec-dtype=float32", "--mmrec-op=linear_recurrence", "--mmrec-profile=quick",
                              "--mmrec-seed=7"]  # fmt: skip


@pytest.mark.parametrize("option", ["op", "dtype", "profile"])
def test_a_wrong_value_after_the_dashes_is_refused(monkeypatch, capsys, option):
    code, started = called(monkeypatch, "verify", "torch", "--", f"--mmrec-{option}", "nonsense")
    assert code == 2 and not started
    assert f"--{option}: 'nonsense' is not one of" in capsys.readouterr().err


def test_only_verify_starts_pytest(monkeypatch, capsys):
    code, started = called(monkeypatch, "spec", "list", "--", "-x")
    assert code == 2 and not started and "-x: only `mmrec verify`" in capsys.readouterr().err
