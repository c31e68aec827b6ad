"""Is it noticed which kernels were compiled where they were timed?"""

from types import SimpleNamespace

import pytest

from mmrec.benchmarks.cases import Case, Lengths
from mmrec.benchmarks.run import Run
from mmrec.benchmarks.table import late_line

CASE = Case("linear_recurrence", "triton", "torch", "forward", Lengths(1, 8, 2), "float32")


def kernel(x_ptr):
    pass


def hear(run, name, seconds, cache_hit):
    """As Triton tells a listener."""
    times = SimpleNamespace(total=seconds * 1e6)
    run.compilations.hear(src=None, metadata={"name": name}, metadata_group={}, times=times, cache_hit=cache_hit)


def test_what_triton_did_not_find_in_its_cache_is_named_with_its_case():
    run = Run()

    hear(run, "found", 0.1, cache_hit=True)
    hear(run, "forward_kernel", 12.0, cache_hit=False)
    run.note_compilations(CASE)
    run.note_compilations(CASE)

    assert run.compiled_late == [(CASE, "forward_kernel", 12.0)]
    assert late_line(run.compiled_late) == f"1 kernels were not compiled ahead, 12 s: forward_kernel 12.0 s ({CASE})"


def test_triton_tells_what_it_compiles(monkeypatch, tmp_path):
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.runtime.jit import JITFunction

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    run = Run()
    monkeypatch.setattr(triton.knobs.compilation, "listener", None)
    run.compilations.listen()
    for _ in range(2):
        triton.compile(
            ASTSource(JITFunction(kernel), {"x_ptr": "*fp32"}),
            target=GPUTarget("cuda", 90, 32),
            options={"enable_fp_fusion": True},
        )

    run.note_compilations(CASE)
    assert [name for _, name, _ in run.compiled_late] == ["kernel"], "the second time it is found"
