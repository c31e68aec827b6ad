"""Is a subject's process started with what its source will use, and does a name that is none do no harm?"""

import pytest

from mmrec.conformance.start import context_for, frameworks_of


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("torch", ["torch"]),
        ("torch-parallel", ["torch"]),
        ("jax", ["jax"]),
        ("mmrec.impls.triton_ops", ["torch"]),
        ("no.such.module", []),
        ("./folder", []),
        ("no_such_file.py", []),
        ("", []),
    ],
)
def test_frameworks_are_read_in_the_source(given, expected):
    assert frameworks_of(given) == expected


def test_only_what_speaks_of_torch_is_forked(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("import torch, jax")
    assert frameworks_of(str(path)) == ["torch", "jax"]
    assert context_for(str(path)).get_start_method() == context_for("torch").get_start_method() == "forkserver"
    assert context_for("jax").get_start_method() == context_for("no.such.module").get_start_method() == "spawn"
