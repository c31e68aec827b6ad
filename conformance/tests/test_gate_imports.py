"""Does the gate see what a change reaches, by imports in whatever form and by nothing else?"""

from pathlib import Path

import pytest

from mmrec.conformance.gate.children import Located
from mmrec.conformance.gate.imports import Imports
from mmrec.conformance.gate.offers import Offer
from mmrec.conformance.gate.revisions import Tree
from mmrec.conformance.gate.touched import touched_by

HERE = Path(__file__).resolve()


def write(folder, texts):
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text + "\n")
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return Imports(Tree(folder, tuple(files)))


@pytest.mark.parametrize(
    "line",
    [
        "import kernels.scan",
        "from kernels import scan",
        "from kernels.scan import forward",
        "from .scan import forward",
        "from . import scan",
        "def later():\n    from kernels import scan",
        "import importlib\nimportlib.import_module('kernels.scan')",
    ],
)
def test_every_form_of_import_reaches_its_module(tmp_path, line):
    imports = write(tmp_path, {"kernels/__init__.py": "", "kernels/scan.py": "", "kernels/op.py": line})
    assert imports.reached_from(["kernels/op.py"]) == {"kernels/op.py", "kernels/scan.py", "kernels/__init__.py"}


def test_reaching_goes_through_modules_and_round_circles(tmp_path):
    texts = {"a.py": "import b", "b.py": "import c", "c.py": "import a", "d.py": "import a"}
    assert write(tmp_path, texts).reached_from(["b.py"]) == {"a.py", "b.py", "c.py"}


def test_a_package_that_reexports_does_not_tie_its_modules_together(tmp_path):
    texts = {"p/__init__.py": "from .one import f\nfrom .two import g", "p/one.py": "", "p/two.py": "from p import one"}
    imports = write(tmp_path, texts)
    assert imports.reached_from(["p/one.py"]) == {"p/one.py", "p/__init__.py"}
    assert "p/two.py" in write(tmp_path, {"user.py": "import p"}).reached_from(["user.py"])


def test_names_from_the_packaging_and_from_a_source_folder_are_found(tmp_path):
    texts = {
        "pyproject.toml": '[tool.setuptools.package-dir]\n"house.room" = "room"',
        "room/__init__.py": "",
        "room/scan.py": "",
        "src/shop/__init__.py": "",
        "src/shop/gate.py": "from house.room import scan",
        "subject.py": "from shop import gate",
    }
    reached = write(tmp_path, texts).reached_from(["subject.py"])
    assert {"room/scan.py", "src/shop/gate.py"} <= reached


def test_a_file_that_a_module_names_counts_and_its_neighbours_do_not(tmp_path):
    texts = {"scan.py": "load(sources=['csrc/scan.cu'])", "csrc/scan.cu": "", "csrc/gate.cu": "", "README.md": ""}
    assert write(tmp_path, texts).reached_from(["scan.py"]) == {"scan.py", "csrc/scan.cu"}


def test_a_similar_name_without_an_import_reaches_nothing(tmp_path):
    texts = {"decay.py": "x = 'decay_test'", "decay_test.py": "import decay", "decay_notes.py": ""}
    assert write(tmp_path, texts).reached_from(["decay.py"]) == {"decay.py"}


# ---- of this repository -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def house():
    root = HERE.parents[2]
    rooms = ("spec", "reference", "numerics", "impls", "conformance", "benchmarks", "ci")
    files = [path.relative_to(root).as_posix() for room in rooms for path in (root / room).rglob("*.py")]
    return Imports(Tree(root, ("README.md", "pyproject.toml", *files)))


def reached_ops(house, changed, backend="torch"):
    folder = house.tree.root / "impls" / f"{backend}_ops"
    ops = {path.stem: [str(path)] for path in folder.glob("[a-z]*.py")}
    counted = {"name": backend, "framework": backend, "ops": ops, "kernels": [str(folder / "_scan.py")]}
    subject = Located(backend, f"impls/{backend}_ops/__init__.py")
    return touched_by([changed], Offer(subject, counted, counted), house, house)


def test_a_shared_kernel_module_reaches_the_ops_that_import_it(house):
    touched = reached_ops(house, "impls/torch_ops/_scan.py")
    assert set(touched.by_code) == {"decay_product", "decay_product_exact", "linear_recurrence", "log_decay_product"}
    assert not touched.by_judge and touched.kernels == ["impls/torch_ops/_scan.py"]


def test_another_backend_reaches_nothing(house):
    touched = reached_ops(house, "impls/jax_ops/_scan.py")
    assert not touched.ops and not touched.kernels


def test_a_reference_reaches_its_op_and_leaves_the_kernels_alone(house):
    touched = reached_ops(house, "reference/decay_gate.py")
    assert touched.by_judge == ["decay_gate"] and not touched.by_code and not touched.kernels


def test_a_bound_reaches_the_ops_that_share_it(house):
    touched = reached_ops(house, "numerics/bounds/affine.py")
    assert "linear_recurrence" in touched.by_judge and "decay_gate" not in touched.by_judge


@pytest.mark.parametrize(
    "file", ["conformance/judge.py", "conformance/plugin.py", "numerics/formats.py", "conformance/test_values.py"]
)
def test_the_judge_reaches_every_op(house, file):
    assert len(reached_ops(house, file).by_judge) == len(reached_ops(house, file).ops) == 7


@pytest.mark.parametrize(
    "file", ["README.md", "ci/check_layers.py", "conformance/report/view.py", "conformance/cli.py"]
)
def test_what_computes_nothing_reaches_nothing(house, file):
    assert not reached_ops(house, file).ops
