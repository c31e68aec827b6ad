"""Does compiling ahead reach every case in its order, survive what breaks, end in time, and leave what measures alone?"""

import os
import sys
import threading
import time

import pytest

from mmrec.benchmarks import compile_ahead as module
from mmrec.benchmarks.cases import Case, Lengths, measures_to_compile
from mmrec.benchmarks.compile_ahead import Queue, Room, compile_ahead, compile_case
from mmrec.benchmarks.device import PROGRAMS_KEPT, unmeasured

SMALL = Lengths(1, 8, 2)


def case(op="linear_recurrence", implementation="torch", framework="torch", lengths=SMALL):
    return Case(op, implementation, framework, "forward", lengths, "float32")


JAX = case("decay_product", "jax", "jax")


@pytest.fixture
def processes(monkeypatch, tmp_path):
    """Processes of a program that writes down what it is given; the case says what it then does."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(module, "free_bytes", lambda device: 2**40)
    log = tmp_path / "log"
    log.touch()

    def program():
        path = tmp_path / "program.py"
        path.write_text(f"""
import json, sys, time
print("{{}}", flush=True)
for line in sys.stdin:
    case = json.loads(line)
    open({str(log)!r}, "a").write(case["implementation"] + "\\n")
    if case["implementation"] == "crashes":
        sys.exit(1)
    if case["implementation"] == "hangs":
        time.sleep(600)
    print('{{"error": "no"}}' if case["implementation"] == "fails" else "{{}}", flush=True)
""")
        return [sys.executable, str(path)]

    monkeypatch.setattr(module, "command", program)
    return lambda: log.read_text().split()


def test_every_case_is_reached_though_one_crashes_and_one_fails(processes):
    said = []
    cases = [case(implementation=name) for name in ("first", "crashes", "second", "fails", "third", "fourth")]

    compile_ahead(cases, unmeasured(), 60.0, said.append)

    assert sorted(processes()) == sorted(one.implementation for one in cases)
    assert said[0].startswith("compiling 6 cases in 2 processes") and said[-1].startswith("compiled in ")
    assert "not reached" not in said[-1]


def test_it_ends_in_time_and_says_what_it_did_not_reach(processes):
    said, began = [], time.monotonic()

    compile_ahead(
        [case(implementation="hangs")] * 2 + [case(implementation="late")] * 3, unmeasured(), 6.0, said.append
    )

    assert time.monotonic() - began < 30, "the two that hang would take 600 s"
    assert processes() == ["hangs", "hangs"]
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


def test_a_process_keeps_to_its_framework_while_there_is_work_of_it():
    queue = Queue([case(), JAX, case(), JAX], time.monotonic() + 60)

    taken = [queue.take("jax").framework for _ in range(4)]

    assert taken == ["jax", "jax", "torch", "torch"]
    assert queue.take("jax") is None
    assert Queue([JAX], time.monotonic()).take("jax") is None, "no time is left"


def test_a_case_waits_for_memory_and_one_alone_never_does():
    room, order = Room(10), []
    room.take(8)
    waiting = threading.Thread(target=lambda: (room.take(5), order.append("taken")))
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()

    order.append("given back")
    room.give_back(8)
    waiting.join(10)
    assert order == ["given back", "taken"]
    room.give_back(5)
    room.take(1000)  # larger than all there is, but nobody else computes


def test_what_one_process_compiles_another_one_finds(tmp_path):
    pytest.importorskip("jax")
    environment = {**PROGRAMS_KEPT, "JAX_COMPILATION_CACHE_DIR": str(tmp_path), "JAX_PLATFORMS": "cpu"}

    def programs():
        process = module.Process(environment)
        assert process.compiles(JAX, 120.0)
        process.close()
        return {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*-cache")}

    first = programs()
    assert first and programs() == first


def test_a_peer_is_checked_too_and_what_is_too_slow_or_too_large_is_not_called(monkeypatch):
    called = []
    monkeypatch.setattr(module, "calls_of", lambda source, case, device: iter([lambda: called.append(case)]))
    monkeypatch.setattr(module, "check", lambda peer, *what: called.append(peer.name))
    peer = Case("decay_product_exact", "torch.cumprod", "torch", "forward", SMALL, "float32", peer=True)

    compile_case(peer, unmeasured())
    assert called == ["torch.cumprod", peer]

    monkeypatch.setattr(module, "too_slow", lambda *case: "slow")
    compile_case(case(), unmeasured())
    assert len(called) == 2


def test_the_program_answers_an_error_and_goes_on():
    process = module.Process()

    assert not process.compiles(case(implementation="nobody"), 120.0)
    assert process.compiles(case(), 120.0)
    process.close()
