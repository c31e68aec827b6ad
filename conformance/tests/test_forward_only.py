"""What is said of a subject without gradients? What it owes forwards is judged, and the table tells what it does not offer."""

import json
import os
import subprocess
import sys

import pytest

NUMPY = """
import numpy as np

def linear_recurrence(a, b, h0):
    h, states = h0, []
    for t in range(a.shape[1]):
        h = a[:, t] * h + b[:, t]
        states.append(h)
    return np.stack(states, axis=1) if states else b.copy()

SUBJECT = {"name": "mine", "framework": "numpy", "ops": {"linear_recurrence": linear_recurrence}}
"""
TORCH = NUMPY.replace("import numpy as np", "import torch").replace('"numpy"', '"torch"').replace(".copy()", ".clone()")
TORCH = TORCH.replace("np.stack(states, axis=1)", "torch.stack(states, dim=1)")
FORWARD_ONLY = TORCH.replace("    h, states", "    a, b, h0 = a.detach(), b.detach(), h0.detach()\n    h, states")
EMPTY_IS_DETACHED = TORCH.replace("b.clone()", "b.detach().clone()")


@pytest.fixture
def verified(tmp_path):
    """Judges a subject quickly: what is printed, and the clauses that failed."""

    def verify(source):
        (tmp_path / "mine.py").write_text(source)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        ran = subprocess.run([sys.executable, "-m", "mmrec.conformance", "verify", "mine.py", "--profile", "quick",
                              "--dtype", "float32", "--jobs", "1", "--", "-rs"], cwd=tmp_path, env=kept,
                             capture_output=True, text=True, check=False)  # fmt: skip
        records = json.loads((tmp_path / "results" / "result.json").read_text())["records"]
        judged = [record for record in records if not record["left_out"] and record["verdict"] != "NOT_IMPLEMENTED"]
        return ran.stdout, {c for record in judged if record["verdict"] != "CONFORMS" for c in record["clauses"]}

    return verify


def test_gradients_that_a_framework_has_not_are_not_called_a_missing_op(verified):
    text, failed = verified(NUMPY)
    assert failed == {"CONV-9"}
    assert "gradients not offered, so not judged: linear_recurrence" in text and "not implemented:" not in text


def test_a_kernel_without_gradients_fails_the_clause_of_its_gradient_and_shows_the_rest(verified):
    _, failed = verified(FORWARD_ONLY)
    assert failed == {"ADJ-4", "CONV-9"}


def test_a_gradient_that_only_an_empty_sequence_lacks_is_no_missing_gradient(verified):
    _, failed = verified(EMPTY_IS_DETACHED)
    assert failed == {"CONV-5", "CONV-9"}


def test_what_is_not_run_is_counted_in_words_and_no_test_without_a_parameter_is_reported(verified):
    text, _ = verified(NUMPY)
    assert "not run: 1 check: said of the decay products only" in text
    assert "NOTSET" not in text and "SKIPPED" in text
