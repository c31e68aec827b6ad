"""Does a process that compiles do what timing does, say what it did not, and leave what it compiled where others find it?"""

import os
from dataclasses import replace
from types import SimpleNamespace

import pytest

from mmrec.benchmarks import compiler as module
from mmrec.benchmarks import device, measurement, work
from mmrec.benchmarks.cases import Case, Lengths
from mmrec.benchmarks.compiler import Process, compile_case
from mmrec.benchmarks.device import PROGRAMS_KEPT, settle, unmeasured
from mmrec.benchmarks.measurement import LONGEST_CALL, PROBED, too_slow
from mmrec.benchmarks.work import Source, prepare, ran_out_of_memory

CASE = Case("linear_recurrence", "torch", "torch", "forward", Lengths(1, 8, 2), "float32")
JAX = Case("decay_product", "jax", "jax", "forward", Lengths(1, 8, 2), "float32")
LOOP = Case("gated_recurrence", "torch", "torch", "forward", Lengths(1, 4096, 2), "float32")


def test_what_one_process_compiles_another_one_finds(tmp_path):
    pytest.importorskip("jax")
    environment = {**PROGRAMS_KEPT, "JAX_COMPILATION_CACHE_DIR": str(tmp_path), "JAX_PLATFORMS": "cpu"}

    def programs():
        process = Process(variables=environment)
        assert process.compiles(JAX, 120.0) == ""
        process.close()
        return {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*-cache")}

    first = programs()
    assert first and programs() == first


def test_triton_keeps_its_kernels_in_one_folder_though_something_is_compiled_by_torch(monkeypatch):
    triton = pytest.importorskip("triton")
    hints = pytest.importorskip("torch._inductor.runtime.hints")
    from torch._inductor.runtime.triton_heuristics import CachingAutotuner

    monkeypatch.setattr(device, "device_kind", lambda: "cuda")
    for name in ("TRITON_CACHE_DIR", *PROGRAMS_KEPT, "XLA_PYTHON_CLIENT_PREALLOCATE"):
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)
    folder = triton.knobs.cache.dir

    def compile_by_torch():
        gpu = hints.DeviceProperties(type="cuda", index=0, multi_processor_count=132, cc=90, warp_size=32)
        kernel = SimpleNamespace(__name__="kernel", arg_names=())
        CachingAutotuner(kernel, {"device": gpu}, [triton.Config({})], None, [], False, None)

    compile_by_torch()
    assert triton.knobs.cache.dir != folder, "torch no longer moves it: then settle need not hold it"
    os.environ.pop("TRITON_CACHE_DIR")

    settle()
    compile_by_torch()
    assert triton.knobs.cache.dir == folder


def test_a_peer_is_checked_too_and_what_is_too_slow_or_too_large_is_not_called_but_said(monkeypatch):
    called = []
    monkeypatch.setattr(module, "calls_of", lambda source, case, device: iter([lambda: called.append(case)]))
    monkeypatch.setattr(module, "check", lambda peer, *what: called.append(peer.name))
    peer = replace(CASE, op="decay_product_exact", implementation="torch.cumprod", peer=True)

    assert compile_case(peer, unmeasured()) == ""
    assert called == ["torch.cumprod", peer]

    monkeypatch.setattr(module, "too_slow", lambda *case: "slow")
    assert compile_case(CASE, unmeasured()) == "slow"
    monkeypatch.setattr(module, "too_large", lambda *case: "large")
    with pytest.raises(MemoryError, match="large"):
        compile_case(CASE, unmeasured())
    assert len(called) == 2


@pytest.mark.parametrize("direction", ["forward", "forward+backward"])
def test_what_is_called_is_what_is_timed_with_every_set_of_inputs(monkeypatch, direction):
    """Which path a solver takes depends on the numbers: so the same numbers."""
    torch = pytest.importorskip("torch")
    asked = []

    def function(a, b, h0):
        asked.append((a.detach().clone(), a.requires_grad and torch.is_grad_enabled(), a.stride()))
        return a + b + h0

    case = replace(CASE, direction=direction)
    monkeypatch.setattr(module, "source_of", lambda case: Source(function))

    assert compile_case(case, unmeasured()) == ""
    compiled, asked[:] = list(asked), []
    timed = prepare(Source(function), case, unmeasured())
    for _ in compiled:
        timed()

    assert len(compiled) == work.number_of_sets(case, unmeasured()) > 1
    assert [one[1:] for one in compiled] == [one[1:] for one in asked]
    assert all(torch.equal(ahead[0], then[0]) for ahead, then in zip(compiled, asked, strict=True))


def test_on_a_device_that_others_use_too_a_call_may_take_as_many_times_longer(monkeypatch):
    now = [0.0]
    alone = 0.8 * LONGEST_CALL["cpu"] / PROBED

    def prepared(source, case, device):
        return lambda: now.__setitem__(0, now[0] + source.function(case.lengths.T))

    monkeypatch.setattr(measurement, "prepare", prepared)
    monkeypatch.setattr(measurement, "clock_of", lambda framework, kind: lambda: now[0])
    shared = Source(lambda steps: 16 * alone * steps / (LOOP.lengths.T // PROBED))

    assert "would take about" in too_slow(LOOP, shared, unmeasured())
    assert too_slow(LOOP, shared, unmeasured(), sharers=16) == ""


def test_the_program_answers_an_error_and_goes_on():
    process = Process()

    assert process.compiles(replace(CASE, implementation="nobody"), 120.0).startswith("KeyError")
    assert process.compiles(CASE, 120.0) == ""
    process.close()


@pytest.mark.parametrize("said", ["OutOfMemoryError: CUDA out of memory.", "XlaRuntimeError: RESOURCE_EXHAUSTED: no",
                                  "MemoryError: not timed: needs", "RuntimeError: CUBLAS_STATUS_ALLOC_FAILED"])  # fmt: skip
def test_memory_that_runs_out_is_told_from_other_errors(said):
    assert ran_out_of_memory(said)
    assert not ran_out_of_memory("ValueError: gamma: expected a decay")
