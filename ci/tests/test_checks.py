"""Do the checks of ci/ see what they are there to see?"""

import importlib.util
from pathlib import Path

import pytest

CI = Path(__file__).resolve().parent.parent


def load(name):
    spec = importlib.util.spec_from_file_location(name, CI / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def house(tmp_path, monkeypatch):
    layers = load("check_layers")
    monkeypatch.setattr(layers, "ROOT", tmp_path)

    def plant(place, line):
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(line + "\n")
        return layers.check()

    return plant


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("reference/decay.py", "import torch"),
        ("reference/decay.py", "from mmrec.numerics import formats"),
        ("numerics/bound.py", "from mmrec.conformance import judge"),
        ("impls/torch_ops/scan.py", "import triton"),
        ("impls/jax_ops/scan.py", "from mmrec.reference import numbers"),
    ],
)
def test_a_forbidden_import_is_named(house, place, line):
    found = house(place, line)
    assert found and all(place in problem for problem in found)


def test_allowed_imports_pass(house):
    assert house("conformance/judge.py", "import torch\nfrom mmrec.reference import numbers") == []
    assert house("impls/triton_ops/scan.py", "import torch\nimport triton\nfrom . import x") == []


def test_the_house_stands():
    assert load("check_layers").check() == []


def test_every_clause_has_its_place():
    assert load("check_clauses").check() == []
