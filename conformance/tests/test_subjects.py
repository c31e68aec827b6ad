"""Does a bad subject get one line that names the thing and says what is accepted?"""

import sys

import pytest

from mmrec.conformance.subjects import BUILT_IN, Subject, SubjectError, from_dictionary, load, source_of


def identity(*arrays, **options):
    return arrays[0]


GOOD = {"name": "mine", "framework": "numpy", "ops": {"decay_product": identity}}


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Write a subject file; modules and search paths it leaves behind are removed afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    names = []

    def write(text, name="written_subject.py"):
        path = tmp_path / name
        path.write_text(text)
        names.append(path.stem)
        return str(path)

    yield write
    for name in names:
        sys.modules.pop(name, None)


def refused(call, *expected):
    with pytest.raises(SubjectError) as told:
        call()
    message = str(told.value)
    assert "\n" not in message
    for words in expected:
        assert words in message, message


# ---- where it comes from --------------------------------------------------------------------
@pytest.mark.parametrize("given", ["nowhere/kernels.py", "kernels_that_are_not_there.py"])
def test_a_missing_file(given):
    refused(lambda: load(given), f"{given}: no such file", "torch, triton, jax", ".py file or a module")


@pytest.mark.parametrize("given", ["no_such_package_at_all", "no_such_package_at_all.kernels", "json.no_such_part"])
def test_a_missing_module(given):
    refused(lambda: load(given), f"{given}: no such module", "torch, triton, jax")


@pytest.mark.parametrize(
    ("given", "meant"),
    [("tritn", "triton"), ("torch-paralel", "torch-parallel"), ("Jax", "jax"), ("zzz", ""), ("a-b", "")],
)
def test_a_name_that_is_nearly_a_built_in_s(given, meant):
    offer = f"did you mean {meant}? " if meant else ""
    refused(lambda: load(given), f"{given}: no such module; {offer}expected a built-in (torch, ")


@pytest.mark.parametrize("given", ["triton", "triton-parallel"])
def test_a_built_in_whose_framework_is_not_installed(monkeypatch, given):
    for name in [
        name for name in sys.modules if name == "triton" or name.startswith(("triton.", "mmrec.impls.triton_ops"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "triton", None)  # as Python finds no such module
    refused(
        lambda: load(given), f"{given}: needs triton, which is not installed", "pip install 'mmrec-conformance[triton]'"
    )


def test_a_file_without_subject(written):
    given = written("x = 1\n")
    refused(lambda: load(given), f"{given}: has no SUBJECT", "name, framework and ops")


def test_a_module_without_subject():
    refused(lambda: load("json"), "json: has no SUBJECT")


def test_a_file_that_raises(written):
    given = written("raise RuntimeError('two\\nlines')\n")
    refused(lambda: load(given), "cannot be imported: RuntimeError: two lines (written_subject.py:1)")


def test_a_file_that_raises_elsewhere_is_told_by_its_own_line(written):
    given = written("import json\n\ntable = json.loads('{')\n")
    refused(lambda: load(given), "JSONDecodeError: Expecting property name", "(written_subject.py:3)")


def test_a_file_with_a_syntax_error(written):
    given = written("def broken(:\n")
    refused(lambda: load(given), given, "cannot be imported: SyntaxError")


def test_a_file_whose_import_is_missing(written):
    given = written("import no_such_package_at_all\n")
    refused(lambda: load(given), given, "cannot be imported", "no_such_package_at_all")


def test_a_good_file_and_its_neighbours(written):
    written("def double(gamma, initial):\n    return gamma * 2\n", "neighbour_of_the_subject.py")
    given = written(
        "from neighbour_of_the_subject import double\n"
        "SUBJECT = {'name': 'mine', 'framework': 'numpy', 'ops': {'decay_product': double}}\n"
    )
    subject = load(given)
    assert isinstance(subject, Subject) and subject.name == "mine" and subject.ops["decay_product"](2, 1) == 4
    assert subject.device is None and subject.declares == {} and subject.checked is None


def test_built_in_subjects_are_known_by_name():
    assert {name: f"mmrec.impls.{name}_ops" for name in ("torch", "triton", "jax")}.items() <= BUILT_IN.items()
    assert BUILT_IN["torch-parallel"] == "mmrec.impls.torch_ops.parallel"
    assert list(load("torch-parallel").ops) == ["gated_recurrence", "stabilized_recurrence"]


# ---- its dictionary -------------------------------------------------------------------------
def entries(**changed):
    return {key: value for key, value in {**GOOD, **changed}.items() if value is not ...}


WRONG_ENTRIES = {
    "no name": (entries(name=...), ['SUBJECT has no "name"', "name, framework and ops are required"]),
    "no framework": (entries(framework=...), ['SUBJECT has no "framework"']),
    "no ops": (entries(ops=...), ['SUBJECT has no "ops"']),
    "unknown key": (entries(colour="red"), ["unknown key 'colour'", "name, framework, device, ops"]),
    "unknown framework": (entries(framework="tensorflow"), ["'tensorflow' is not one of numpy, torch, jax"]),
    "framework of the wrong type": (entries(framework=None), ["None is not one of numpy, torch, jax"]),
    "ops a list": (entries(ops=[identity]), ['SUBJECT["ops"] must be a dictionary of at least one op']),
    "ops empty": (entries(ops={}), ["at least one op"]),
    "unknown op": (entries(ops={"matmul": identity}), ["unknown op 'matmul'", "decay_gate", "stabilized_recurrence"]),
    "op not callable": (entries(ops={"decay_product": 3}), ['["decay_product"] is a int, expected a function']),
    "declares an unknown op": (entries(declares={"matmul": {}}), ["declares", "unknown op 'matmul'"]),
    "a list": ([GOOD], ["SUBJECT is a list, expected a dictionary"]),
    "nothing": (None, ["SUBJECT is a NoneType"]),
}


@pytest.mark.parametrize("what", WRONG_ENTRIES)
def test_a_wrong_dictionary_is_refused_by_its_entry(what):
    given, expected = WRONG_ENTRIES[what]
    refused(lambda: from_dictionary(given, "mine.py"), "mine.py: ", *expected)


def test_a_full_dictionary_is_taken_as_it_is():
    declares = {"decay_product": {"class": "log", "depth": "tree"}}
    subject = from_dictionary(entries(declares=declares, device="cpu", checked=identity, model=None), "mine.py")
    assert subject.declares == declares and subject.device == "cpu" and subject.checked is identity


def test_a_built_in_s_code_is_told_from_another_version_of_it(tmp_path, monkeypatch):
    folder = tmp_path / "somebody" / "impls" / "mine_ops"
    (folder / "parallel").mkdir(parents=True)
    (folder / "scan.py").write_text("BLOCK = 1")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(BUILT_IN, "mine", "somebody.impls.mine_ops.parallel")

    def digest():
        source_of.cache_clear()
        return source_of("mine")

    before = digest()
    assert before and digest() == before
    (folder / "scan.py").write_text("BLOCK = 2")
    changed = digest()
    (folder / "scan.py").rename(folder / "parallel" / "scan.py")
    assert len({before, changed, digest()}) == 3
    assert source_of("somebody_else.py") == ""
    assert len({source_of(name) for name in ("torch", "triton", "jax")}) == 3
    assert source_of("torch") == source_of("torch-parallel") != ""
