"""Does the program that times one revision answer what it is asked?"""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from mmrec.benchmarks import measurement
from mmrec.benchmarks.cases import Lengths
from mmrec.benchmarks.plans import PLANS, Size
from mmrec.benchmarks.stopwatch import Stopwatch
from mmrec.conformance.subjects import Subject

SUBJECT = """
import torch

def log_decay_product(gamma, initial):
    print("a subject that talks")
    return initial[:, None] + torch.cumsum(torch.log(gamma), 1)

SUBJECT = {"name": "mine", "framework": "torch", "ops": {"log_decay_product": log_decay_product}}
"""


def test_it_plans_prepares_and_times_and_keeps_the_subject_from_its_answers(tmp_path):
    pytest.importorskip("torch")
    path = tmp_path / "mine.py"
    path.write_text(SUBJECT)
    process = subprocess.Popen([sys.executable, "-m", "mmrec.benchmarks.stopwatch", str(path)], text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # fmt: skip

    def ask(question):
        process.stdin.write(json.dumps(question) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    assert json.loads(process.stdout.readline())["reason"] == ""
    forward, *others = ask({"plan": "log_decay_product"})
    assert forward["direction"] == "forward" and others
    effort = ask({"prepare": forward})
    assert effort["calls"] >= 1 and effort["seconds"] > 0
    assert ask({"calls": 1}) > 0
    assert "one revision of mine has no decay_gate" in ask({"prepare": {**forward, "op": "decay_gate"}})["error"]
    process.communicate()


def test_what_cannot_be_timed_says_why():
    subject = Subject("mine", "numpy", {"decay_gate": lambda: None})
    assert Stopwatch(subject).about()["reason"] == "NumPy subjects are judged, not timed"


@pytest.fixture
def loops(monkeypatch):
    """A stopwatch of something that takes so long for each step, and so long whatever their number."""
    pytest.importorskip("torch")
    plan = replace(PLANS["cpu"], recurrences=(Size(Lengths(1, 8192, 2), ("float32",)),))
    monkeypatch.setitem(PLANS, "cpu", plan)
    now = [0.0]

    def stopwatch(seconds_a_step, seconds_at_once=0.0):
        def loop(z, *others):
            now[0] += z.shape[1] * seconds_a_step + seconds_at_once
            return z

        one = Stopwatch(Subject("mine", "torch", {"gated_recurrence": loop}))
        one.kind = "cpu"
        one.clock = lambda: now[0]
        monkeypatch.setattr(measurement, "clock_of", lambda framework, kind: one.clock)
        return one

    return stopwatch


@pytest.mark.parametrize(
    ("a_step", "at_once", "steps"), [(1e-2, 0.0, 128), (1e-5, 0.0, 8192), (2e-4, 0.0, 128), (0.0, 0.2, 8192)]
)
def test_a_long_loop_is_timed_over_its_first_steps_and_what_is_no_loop_over_all(loops, a_step, at_once, steps):
    case = loops(a_step, at_once).case("gated_recurrence", "forward", Lengths(1, 8192, 2), "float32", "")

    assert steps == loops(a_step, at_once).fitting(case).lengths.T
