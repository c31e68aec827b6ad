"""Does compiling ahead reach every case in its order, say what broke, end in time, and leave what measures alone?"""

import os
import sys
import threading
import time

import pytest

from mmrec.benchmarks import compile_ahead as module
from mmrec.benchmarks import compiler
from mmrec.benchmarks.cases import Case, Lengths, measures_to_compile
from mmrec.benchmarks.compile_ahead import Queue, Room, compile_ahead, is_compiled, other_regimes_last
from mmrec.benchmarks.device import unmeasured
from mmrec.benchmarks.peers import peer_cases
from mmrec.benchmarks.plans import plan_cases

SMALL = Lengths(1, 8, 2)


def case(op="linear_recurrence", implementation="torch", framework="torch", lengths=SMALL, regime=""):
    return Case(op, implementation, framework, "forward", lengths, "float32", regime)


JAX = case("decay_product", "jax", "jax")


@pytest.fixture
def processes(monkeypatch, tmp_path):
    """Processes of a program that writes down what it is given; the case says what it then does."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(module, "free_bytes", lambda device: 2**40)
    monkeypatch.setattr(module, "is_compiled", lambda case: True)
    log = tmp_path / "log"
    log.touch()

    path = tmp_path / "program.py"
    path.write_text(f"""
import json, sys, time
print("{{}}", flush=True)
for line in sys.stdin:
    case = json.loads(line)["case"]
    open({str(log)!r}, "a").write(case["implementation"] + "\\n")
    if case["implementation"] == "crashes":
        sys.exit(1)
    if case["implementation"] == "hangs":
        time.sleep(600)
    errors = {{"fails": "TypeError: no", "fills": "CUDA out of memory"}}
    print(json.dumps({{"error": errors.get(case["implementation"])}}), flush=True)
""")
    monkeypatch.setattr(compiler, "command", lambda: [sys.executable, str(path)])
    return lambda: log.read_text().split()


def test_every_case_is_reached_though_one_crashes_and_one_fails(processes):
    said = []
    cases = [case(implementation=name) for name in ("first", "crashes", "second", "fails", "third", "fourth")]

    compile_ahead(cases, unmeasured(), 60.0, said.append)

    assert sorted(processes()) == sorted(one.implementation for one in cases)
    assert said[0].startswith("compiling 6 cases in 2 processes") and said[-1].startswith("compiled in ")
    assert "not reached" not in said[-1]
    assert sorted(line for line in said if line.startswith("not compiled ahead")) == [
        f"not compiled ahead: {cases[1]}: its process ended with code 1",
        f"not compiled ahead: {cases[3]}: TypeError: no",
    ]


def test_what_runs_out_of_memory_beside_others_is_tried_once_more_when_they_are_done(processes):
    said = []
    fills, fails = case(implementation="fills"), case(implementation="fails")

    compile_ahead([fills, fails, case(implementation="last")], unmeasured(), 60.0, said.append)

    assert sorted(processes()) == ["fails", "fills", "fills", "last"] and processes()[-1] == "fills"
    assert sorted(said[1:-1]) == [
        f"not compiled ahead: {fails}: TypeError: no", f"not compiled ahead: {fills}: CUDA out of memory",
    ]  # fmt: skip


def test_it_ends_in_time_and_says_what_it_did_not_reach(processes):
    said, began = [], time.monotonic()

    compile_ahead(
        [case(implementation="hangs")] * 2 + [case(implementation="late")] * 3, unmeasured(), 6.0, said.append
    )

    assert time.monotonic() - began < 30, "the two that hang would take 600 s"
    assert processes() == ["hangs", "hangs"]
    assert said[-3:-1] == [f"not compiled ahead: {case(implementation='hangs')}: the time was over"] * 2
    assert "3 cases not reached" in said[-1]


def test_jax_with_a_weight_matrix_is_left_to_the_process_that_times(processes):
    assert measures_to_compile(case("gated_recurrence", "jax", "jax"))
    assert not measures_to_compile(JAX) and not measures_to_compile(case("gated_recurrence"))

    compile_ahead([case("decay_gate", "jax", "jax")], unmeasured(), 60.0, lambda text: pytest.fail(text))
    assert processes() == []


def test_every_framework_is_begun_at_once(processes):
    said = []
    cases = [case(implementation="hangs")] * 5 + [case("decay_product", "quick", "jax")]

    compile_ahead(cases, unmeasured(), 6.0, said.append)

    assert sorted(processes()) == ["hangs", "hangs", "quick"], "jax's process helps with the others when it is done"


def test_another_regime_of_the_same_kernels_comes_last():
    loops = [case("gated_recurrence", regime=regime) for regime in ("decay0.05", "decay0.9", "decay0.99-input0.1")]
    longer = case("gated_recurrence", lengths=Lengths(1, 16, 2), regime="decay0.9")

    assert other_regimes_last([*loops, longer, JAX]) == [loops[0], longer, JAX, *loops[1:]]


def test_a_process_keeps_to_its_framework_while_there_is_work_of_it():
    queue = Queue([case(), JAX, case(), JAX], time.monotonic() + 60)

    taken = [queue.take("jax")[0].framework for _ in range(4)]

    assert taken == ["jax", "jax", "torch", "torch"]
    assert queue.take("jax") is None
    queue.give_back(JAX, "RESOURCE_EXHAUSTED: no", was_alone=False)
    assert queue.take("torch") == (JAX, True) and queue.take("torch") is None
    assert Queue([JAX], time.monotonic()).take("jax") is None, "no time is left"


def test_a_case_waits_for_memory_and_one_alone_never_does():
    room, order = Room(10), []

    def take_five():
        with room.held(5):
            order.append("taken")

    with room.held(8):
        waiting = threading.Thread(target=take_five)
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        order.append("given back")
    waiting.join(10)
    assert order == ["given back", "taken"]
    with room.held(1000):  # larger than all there is, but nobody else computes
        pass


def test_of_every_group_of_the_plan_what_is_not_pytorch_s_own_is_compiled():
    names = {case.implementation for case in [*plan_cases("cuda"), *peer_cases("cuda")] if is_compiled(case)}

    assert {"triton", "triton-parallel", "jax", "torch associative_scan", "fla chunk_hgrn"} <= names
    assert not names & {"torch", "torch-parallel", "torch.cumprod", "torch loop", "torch loop in a CUDA graph"}
