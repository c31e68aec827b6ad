"""Does the program that times one revision answer what it is asked?"""

import json
import subprocess
import sys

import pytest

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
