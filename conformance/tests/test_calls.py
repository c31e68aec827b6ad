"""Is every wrong call refused in one line that names the thing and what is accepted, before anything is judged?"""

import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from mmrec.conformance.cli import app

runner = CliRunner()
CORRECT = """
import numpy as np

def linear_recurrence(a, b, h0):
    h, states = h0, []
    for t in range(a.shape[1]):
        h = a[:, t] * h + b[:, t]
        states.append(h)
    return np.stack(states, axis=1)

SUBJECT = {"name": "numpy loop", "framework": "numpy", "ops": {"linear_recurrence": linear_recurrence}}
"""
CASE = "linear_recurrence/float32/uniform/B1-T2-D1/seed0/contiguous"


@pytest.fixture
def kernels(tmp_path, monkeypatch):
    """A folder to work in, with a correct subject whose file name has a space."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my kernels.py").write_text(CORRECT)
    return tmp_path


def refused(*arguments: str) -> str:
    """The one line that a call was refused with."""
    result = runner.invoke(app, list(arguments))
    message = result.stderr.strip()
    assert result.exit_code == 2, result.output
    assert "\n" not in message and message.startswith("mmrec: ")
    return message


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("def f(:", "SyntaxError"),
        ("", "has no SUBJECT"),
        ("SUBJECT = [1]", "SUBJECT is a list, expected a dictionary"),
        ("import os; os._exit(5)", "while being imported, the process exited with code 5"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "while being imported, the process was killed by SIGSEGV"),
        (CORRECT.replace('"numpy loop"', "None"), 'SUBJECT["name"] is None, expected a text'),
        (CORRECT.replace('"ops"', '"device": 7, "ops"'), 'SUBJECT["device"] is 7, expected a text'),
        (CORRECT.replace('"numpy"', '"tensorflow"'), "'tensorflow' is not one of numpy, torch, jax"),
        (CORRECT.replace('"linear_recurrence": ', '"softmax": '), "unknown op 'softmax'"),
    ],
)  # fmt: skip
def test_a_subject_that_is_none_is_refused(kernels, source, named):
    (kernels / "subject.py").write_text(source)
    message = refused("verify", "subject.py")
    assert named in message and "subject.py" in message


@pytest.mark.parametrize("framework", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("device", ["cuda:99", "graphics", "cpu:x", "meta"])
def test_a_device_that_is_not_here_is_refused(kernels, framework, device):
    text = CORRECT.replace('"numpy"', f'"{framework}"').replace('"ops"', f'"device": "{device}", "ops"')
    (kernels / "subject.py").write_text(text)
    message = refused("verify", "subject.py")
    assert f'subject.py: SUBJECT["device"] is {device!r}: {framework} has no such device here; accepted: cpu' in message


def test_values_go_to_the_device_that_is_named():
    """In a process of its own, in which JAX takes the processor for two devices."""
    program = """
import numpy
from mmrec.conformance.frameworks import jax_arrays as speak
assert speak.devices() == ["cpu", "cpu:0", "cpu:1"], speak.devices()
for device, place in ((None, 0), ("cpu", 0), ("cpu:1", 1)):
    array = speak.make(numpy.ones(3), "float32", "contiguous", False, device)
    for one in (array, speak.refill(array, numpy.zeros(3))):
        assert one.device.id == place and one.committed == (device is not None)
"""
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_what_is_no_python_file_is_called_so(kernels):
    (kernels / "notes.txt").write_text("hello")
    (kernels / "folder").mkdir()
    for given in ("notes.txt", "folder", "./folder", "./notes.txt", ".", ".."):
        assert f"{given}: is not a Python file; expected a built-in" in refused("verify", given)
    assert "name is empty" in refused("verify", "")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--jobs", "many"], "--jobs: 'many' is neither a positive number of processes nor auto"),
        (["--jobs", "-1"], "--jobs: '-1'"),
        (["--jobs", "0"], "--jobs: '0' is neither a positive number of processes nor auto"),
        (["--seed", "-1"], "--seed: -1 is negative; expected 0 or more"),
        (["--time-limit", "0"], "--time-limit: 0 is not a positive number"),
        (["--time-limit", "nan"], "--time-limit: nan is not a positive number"),
        (["--out", "my kernels.py"], "--out: my kernels.py cannot be made: File exists"),
        (["--op", "gated_recurrence"], "no gated_recurrence to judge, only linear_recurrence"),
        (
            ["--replay", CASE.replace("linear", "gated").replace("uniform", "contracting")],
            "no gated_recurrence to judge",
        ),
        (["--replay", CASE.replace("T2", "T999999999999")], "more than 67,108,864 elements"),
        (["--replay", CASE.rpartition("/")[0]], "expected op/dtype/regime/B1-T2-D3/seed0/layout"),
        (["--replay", CASE + "/norm=rms"], "unknown option 'norm', expected none"),
    ],
)
def test_a_wrong_option_is_refused(kernels, arguments, named):
    assert named in refused("verify", "my kernels.py", *arguments)


def test_two_subjects_of_one_name_are_refused(kernels):
    (kernels / "copy.py").write_text(CORRECT)
    assert "copy.py: is named 'numpy loop', as my kernels.py is" in refused("verify", "my kernels.py", "copy.py")


def test_results_that_cannot_be_read_or_drawn_are_refused(kernels):
    (kernels / "cut.json").write_text(json.dumps({"schema": 1})[:-1])
    (kernels / "other.json").write_text(json.dumps({"schema": 99}))
    for given, named in (("cut.json", "is not JSON"), ("other.json", "is not a result file"), (".", "cannot be read")):
        assert named in refused("report", given)
        assert named in refused("diff", given, "cut.json")


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="a folder in which root, too, can write nothing")
def test_a_page_that_cannot_be_written_is_refused(kernels):
    verified = runner.invoke(app, ["verify", "my kernels.py", "--replay", CASE])
    assert verified.exit_code == 1  # it takes any shapes: CONV-9
    assert "--out: /proc cannot be written to" in refused(
        "report", "results/replay/result.json", "--out", "/proc/x.html"
    )
    assert "--out: /proc cannot be written to" in refused("verify", "my kernels.py", "--out", "/proc")


def test_what_a_report_is_drawn_of_is_told(kernels):
    assert "is not JSON" in (told := refused("report", "my kernels.py"))
    assert "expected a result.json written by `mmrec verify`" in told


def test_a_stride_that_leads_nowhere_is_refused():
    assert "--stride: -4 is not a positive number" in refused("calibrate", "--stride", "-4")


def test_a_case_is_replayed_only_where_it_belongs(kernels):
    """A property that is said of exact data only has nothing to say of a case with other data."""
    (kernels / "results").mkdir()
    (kernels / "results" / "result.json").write_text("of all cases")
    result = runner.invoke(app, ["verify", "my kernels.py", "--replay", CASE.replace("uniform", "long_memory")])
    document = json.loads((kernels / "results" / "replay" / "result.json").read_text())
    assert (kernels / "results" / "result.json").read_text() == "of all cases"
    by_check = {record["check"]: record for record in document["records"]}
    assert result.exit_code == 1  # it takes any shapes: CONV-9
    assert by_check["states_superpose"]["left_out"] == "not said of the regime long_memory"
    assert by_check["every_value_is_within_its_bound"]["verdict"] == "CONFORMS"
