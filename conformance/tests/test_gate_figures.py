"""Are compiled kernels weighed as they should be, and is what is too heavy named?"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from mmrec.conformance.cache import kept
from mmrec.conformance.gate import WrongCall, compiling, run
from mmrec.conformance.gate.children import Children
from mmrec.conformance.gate.compiling import names_of
from mmrec.conformance.gate.figures import (
    Row,
    compare,
    gone,
    lacking,
    read_figures,
    resident_warps,
    with_resident,
    write_figures,
)
from mmrec.conformance.gate.sass import counts, machine_code, ptx_code

# Two turns of a loop with one load each, unrolled from the one turn of the PTX below; then the padding of every kernel.
LISTING = """
		Function : scan_kernel
        /*0000*/                   LDC R1, c[0x0][0x28] ;                 /* 0x00000a00ff017b82 */
        /*0010*/                   LDG.E R2, desc[UR4][R2.64] ;           /* 0x000fe200 */
        /*0020*/                   FADD R0, R2, R0 ;                      /* 0x000fe200 */
        /*0030*/              @!P0 LDG.E R4, desc[UR4][R2.64] ;           /* 0x000fe200 */
        /*0040*/                   FADD R0, R4, R0 ;                      /* 0x000fe200 */
        /*0050*/               @P0 BRA 0x10 ;                             /* 0x000fe200 */
        /*0060*/                   STL [R1], R0 ;                         /* 0x000fe200 */
        /*0070*/                   EXIT ;                                 /* 0x000fe200 */
        /*0080*/                   BRA 0x80;                              /* 0x000fe200 */
        /*0090*/                   NOP;                                   /* 0x000fe200 */
"""
PTX = """
.visible .entry scan_kernel(.param .u64 p0)
{
	mov.u32 	%r1, 0;
$L__BB0_1:
	@%p1 ld.global.b32 { %r2 }, [ %rd1 + 0 ];
	add.f32 	%f1, %f1, %f2;
	@%p2 bra 	$L__BB0_1;
	bra.uni 	$L__BB0_2;
$L__BB0_2:
	st.global.b32 [ %rd2 + 0 ], %f1;
	ret;
}
"""
LIGHT = {"registers": 32, "stack": 0, "spills": 0, "instructions": 200, "per_turn": 20.0, "shared": 0, "warps": 1}


def row(now, before=LIGHT):
    kernels = with_resident({"scan.py": {"kernel": {"sm_90": {**LIGHT, **now}}}})
    stored = with_resident({"scan.py": {"kernel": {"sm_90": before}}}) if before else {}
    return compare(kernels, stored, {})[0]


def test_machine_code_is_counted_without_padding_and_by_the_turn():
    found = counts(machine_code(LISTING), ptx_code(PTX))
    assert found == {"spills": 1, "instructions": 9, "per_turn": 2.5}


def test_unrolling_alone_makes_no_kernel_heavier():
    (once,) = machine_code(LISTING)
    four = type(once)(once.instructions, [])
    assert counts([four], ptx_code(PTX))["per_turn"] == 0.0
    assert len(ptx_code(PTX).in_loops) == 3


@pytest.mark.parametrize(
    ("now", "why"),
    [
        ({"spills": 2}, "0 -> 2 spill instructions"),
        ({"stack": 8}, "0 -> 8 bytes of stack"),
        ({"per_turn": 24.0}, "20.0 -> 24.0 instructions a turn (+20 %)"),
        ({"registers": 80}, "32 -> 25 resident warps (32 -> 80 registers)"),
        ({"shared": 16000}, "32 -> 13 resident warps (0 -> 16000 shared)"),
    ],
)
def test_what_is_too_heavy_is_named(now, why):
    assert row(now).failures == [why]


@pytest.mark.parametrize("now", [{}, {"per_turn": 21.9}, {"registers": 40}, {"instructions": 800}, {"per_turn": 10.0}])
def test_what_stays_within_the_limits_passes(now):
    assert row(now).failures == []


def test_without_loops_every_instruction_counts():
    assert row({"per_turn": 0.0, "instructions": 240}, {**LIGHT, "per_turn": 0.0}).failures == [
        "200 -> 240 instructions (+20 %)"
    ]


def test_a_new_kernel_must_only_not_spill():
    assert row({"per_turn": 400.0}, before=None).failures == []
    assert row({"spills": 4}, before=None).failures == ["0 -> 4 spill instructions"]


def test_a_kernel_that_does_not_compile_fails():
    broken = Row("scan.py", "kernel", "sm_90", None, {"error": "CompilationError: no"}, "")
    assert broken.failures == ["does not compile: CompilationError: no"]


def test_the_base_stands_in_where_nothing_is_stored():
    kernels = {"scan.py": {"old": {"sm_90": {}}, "new": {"sm_90": {}}}}
    stored, base = {"scan.py": {"old": {"sm_90": {"a": 1}}}}, {"scan.py": {"new": {"sm_90": {"b": 1}}}}
    assert lacking(kernels, stored) == ["scan.py"] and lacking(kernels, kernels) == []
    assert [one.source for one in compare(kernels, stored, base)] == ["stored", "base"]


def test_a_kernel_that_moved_is_compared_with_itself_and_a_namesake_is_not_it():
    kernels = {
        "new.py": {"scan": {"sm_90": {}}},
        "split.py": {"walk": {"sm_90": {}}},
        "old.py": {"step": {"sm_90": {}}},
    }
    base = {"gone.py": {"scan": {"sm_90": {"a": 1}}}, "old.py": {"step": {"sm_90": {}}, "walk": {"sm_90": {"b": 1}}},
            "other.py": {"scan": {"sm_90": {"c": 1}}}}  # fmt: skip
    changed = ("gone.py", "new.py", "old.py", "split.py")
    assert [one.before for one in compare(kernels, {}, base, changed)] == [{"a": 1}, {"b": 1}, {}]
    assert lacking(kernels, base, changed) == [] and lacking(kernels, base) == ["new.py", "split.py"]


def test_a_kernel_that_nobody_lists_any_more_is_told():
    before = {"a.py": {"scan": {}, "walk": {}}, "b.py": {"step": {}}, "c.py": {"mix": {}}}
    kernels = {"a.py": {"scan": {}}, "new.py": {"step": {}}}
    assert gone(kernels, before, ("a.py", "b.py", "new.py")) == ["a.py, walk"]
    assert gone({}, before, ("b.py",)) == ["b.py, step"] and gone(before, before, tuple(before)) == []


def test_resident_warps_follow_from_what_is_scarce():
    assert resident_warps({"registers": 32, "shared": 0, "warps": 4}, "sm_90") == 64  # the warps themselves
    assert resident_warps({"registers": 255, "shared": 0, "warps": 4}, "sm_90") == 8  # 65536 / (256 * 128) = 2 programs
    assert resident_warps({"registers": 32, "shared": 0, "warps": 1}, "sm_90") == 32  # 32 programs
    assert resident_warps({"registers": 32, "shared": 100 * 1024, "warps": 4}, "sm_80") == 4  # one program's memory


def test_variants_are_named_by_what_they_mean_and_not_by_how_they_are_tuned():
    def spec(**constexprs):
        kernel = SimpleNamespace(__name__="scan")
        return SimpleNamespace(kernel=kernel, storage="fp32", constexprs=constexprs)

    specs = [
        spec(KIND="linear", KEEP=True, BLOCK=32),
        spec(KIND="linear", KEEP=False, BLOCK=64),
        spec(BLOCK=1, EPS=0.1),
    ]
    assert names_of(specs) == ["scan fp32 linear KEEP", "scan fp32 linear", "scan fp32"]
    assert names_of([spec(BLOCK=1), spec(BLOCK=2)]) == ["scan fp32", "scan fp32 2"]


def test_stored_figures_come_back_and_hold_for_their_triton_only(tmp_path):
    path = tmp_path / "ci" / "figures.json"
    kernels = {"scan.py": {"kernel": {"sm_90": LIGHT}}}
    assert read_figures(path, "3.9.0") == ({}, "figures.json is not there")
    write_figures(path, "3.9.0", kernels)
    assert read_figures(path, "3.9.0")[0] == with_resident(kernels)
    assert read_figures(path, "3.4.0") == ({}, "figures.json is of triton 3.9.0")
    path.write_text("[]")
    with pytest.raises(WrongCall, match="is not a file of figures"):
        read_figures(path, "3.9.0")


SUBJECT = """
from types import SimpleNamespace

def kernel(): ...

def compile_specs():
    return [SimpleNamespace(kernel=kernel, signature={}, constexprs={"KIND": kind}, options={}) for kind in "abc"]

SUBJECT = {"name": "mine", "framework": "numpy", "ops": {"decay_product": kernel}}
"""


def test_every_variant_is_compiled_once_for_each_architecture_and_keeps_its_place(tmp_path, monkeypatch):
    path = tmp_path / "mine.py"
    path.write_text(SUBJECT)
    monkeypatch.setattr(compiling, "compile_one", lambda spec, capability: (spec.constexprs["KIND"], capability))
    monkeypatch.setattr(compiling, "weights_of", lambda compiled: {"compiled": list(compiled)})
    # Other tests of this process may have begun threads, with which it must not be forked.
    monkeypatch.setattr(compiling, "ProcessPoolExecutor", lambda count, mp_context: ThreadPoolExecutor(count))

    found = compiling.compile_all(str(path), [str(path)], [80, 90])

    assert found == {str(path): {f"kernel {kind}": {f"sm_{one}": {"compiled": [kind, one]} for one in (80, 90)}
                                 for kind in "abc"}}  # fmt: skip
    assert compiling.compile_all(str(path), [], [80, 90]) == {}


def test_files_that_subjects_share_are_compiled_once(monkeypatch):
    asked = []

    def compile_files(children, subject, files, say):
        asked.append(files)
        return {file: {"kernel": {"sm_90": {**LIGHT}}} for file in files}

    monkeypatch.setattr(run, "compile_files", compile_files)
    within = SimpleNamespace(within=lambda tree: "a subject")
    touched = [SimpleNamespace(subject=within, kernels=names) for names in (["a.py", "b.py"], ["b.py", "c.py"])]

    found = run.compiled(
        [(one.subject, one.kernels) for one in touched], SimpleNamespace(children=None, tree=None), print
    )

    assert asked == [["a.py", "b.py"], ["c.py"]] and list(found) == ["a.py", "b.py", "c.py"]


# ---- what is kept ---------------------------------------------------------------------------


def test_what_was_computed_once_is_found_by_all_that_it_depends_on(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    computed = []

    def ask(*parts):
        return kept("weights", parts, lambda: computed.append(parts) or len(computed))

    assert [ask(b"ab", b"c"), ask(b"ab", b"c"), ask(b"a", b"bc")] == [1, 1, 2]
    first, _ = sorted(tmp_path.rglob("*.json"), key=lambda path: path.read_text())
    first.write_text("cut sh")
    assert ask(b"ab", b"c") == 3, "a file that cannot be read is no answer"


def test_a_cache_that_cannot_be_written_costs_only_time(monkeypatch, tmp_path):
    (tmp_path / "mmrec-conformance").write_text("a file where the folder would be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    assert kept("weights", (b"x",), lambda: 5) == 5


def test_a_child_s_progress_is_told_and_its_last_words_are_the_reason(tmp_path, monkeypatch):
    (tmp_path / "talking.py").write_text("""
import json, sys, time
from pathlib import Path
request = json.load(sys.stdin)
for far in ("half", "half", "most"):
    print("progress:", far, file=sys.stderr, flush=True)
if request == "fail":
    sys.exit("it went wrong")
if request == "hang":
    time.sleep(600)
Path(sys.argv[1]).write_text(json.dumps(request))
""")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    children = SimpleNamespace(tree=SimpleNamespace(root=tmp_path), environment=lambda without: environment,
                               command=lambda module, *arguments: [sys.executable, "-m", module, *arguments])  # fmt: skip
    said = []

    assert Children.ask(children, "talking", {"a": 1}, say=said.append) == {"a": 1}
    assert said == ["half", "most"]
    with pytest.raises(WrongCall, match="talking of fail: it went wrong"):
        Children.ask(children, "talking", "fail")
    monkeypatch.setattr("mmrec.conformance.gate.children.SILENT_SECONDS", 1.0)
    with pytest.raises(WrongCall, match=r"talking of hang: was killed by SIGKILL \(it may be silent for 1 s\)"):
        Children.ask(children, "talking", "hang")
