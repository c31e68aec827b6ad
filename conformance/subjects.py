"""Subjects: whatever implements some ops. Loading one, checking its dictionary, saying clearly what is wrong with it."""

import difflib
import hashlib
import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from mmrec.conformance.frameworks import framework
from mmrec.conformance.ops import op_names

BUILT_IN = {
    **{name: f"mmrec.impls.{name}_ops" for name in ("torch", "triton", "jax")},
    **{f"{name}-parallel": f"mmrec.impls.{name}_ops.parallel" for name in ("torch", "triton", "jax")},
}
ACCEPTED = f"expected a built-in ({', '.join(BUILT_IN)}), a .py file or a module"
KEYS = ("name", "framework", "device", "ops", "declares", "checked", "model")


class SubjectError(Exception):
    """The subject cannot be judged as given; the message names the thing and what is accepted."""


@dataclass(frozen=True)
class Subject:
    """A loaded subject."""

    name: str
    framework: str
    ops: Mapping[str, Callable]
    device: str | None = None
    declares: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    checked: Callable[[], AbstractContextManager] | None = None  # the backend's mode that validates value domains


def load(given: str) -> Subject:
    """The subject of a built-in's name, a Python file, or a module; SubjectError when it is none."""
    module = _import(given)
    if not hasattr(module, "SUBJECT"):
        raise SubjectError(f"{given}: has no SUBJECT; expected a dictionary with name, framework and ops")
    return from_dictionary(module.SUBJECT, given)


def require_device(subject: Subject, given: str) -> None:
    """SubjectError when the device that the subject names is not here. Not asked in ``load``: kernels are compiled for
    GPUs that are elsewhere."""
    accepted = framework(subject.framework).devices()
    if subject.device is not None and subject.device not in accepted:
        raise SubjectError(
            f'{given}: SUBJECT["device"] is {subject.device!r}: {subject.framework} has no such device here; '
            f"accepted: {', '.join(accepted)}"
        )


@cache
def source_of(given: str) -> str:
    """What tells a built-in's code from another version of it: a digest of its backend's folder, which is all it imports
    of ours. "" for other subjects."""
    if given not in BUILT_IN:
        return ""
    backend = ".".join(BUILT_IN[given].split(".")[:3])
    found = importlib.util.find_spec(backend)
    if found is None or not found.submodule_search_locations:
        return ""
    digest = hashlib.sha256()
    for folder in map(Path, found.submodule_search_locations):
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{path.relative_to(folder).as_posix()} {path.stat().st_size}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def from_dictionary(entries: Any, given: str) -> Subject:
    """Check the dictionary of a subject, entry by entry."""
    if not isinstance(entries, dict):
        raise SubjectError(f"{given}: SUBJECT is a {type(entries).__name__}, expected a dictionary")
    for key in entries:
        if key not in KEYS:
            raise SubjectError(f"{given}: SUBJECT has an unknown key {key!r}, expected some of {', '.join(KEYS)}")
    for key in ("name", "framework", "ops"):
        if key not in entries:
            raise SubjectError(f'{given}: SUBJECT has no "{key}"; name, framework and ops are required')
    if not isinstance(entries["name"], str) or not entries["name"].strip():
        raise SubjectError(f'{given}: SUBJECT["name"] is {entries["name"]!r}, expected a text')
    if not isinstance(entries.get("device"), str | None):
        raise SubjectError(f'{given}: SUBJECT["device"] is {entries["device"]!r}, expected a text such as "cuda:0"')
    try:
        framework(entries["framework"])
    except ValueError as error:
        raise SubjectError(f"{given}: {error}") from None
    except ImportError as error:
        raise SubjectError(f"{given}: framework {entries['framework']!r} cannot be imported: {error}") from None
    ops = entries["ops"]
    if not isinstance(ops, dict) or not ops:
        raise SubjectError(f'{given}: SUBJECT["ops"] must be a dictionary of at least one op, name to function')
    for name, function in ops.items():
        if name not in op_names():
            raise SubjectError(
                f'{given}: SUBJECT["ops"] has an unknown op {name!r}, expected some of {", ".join(op_names())}'
            )
        if not callable(function):
            raise SubjectError(f'{given}: SUBJECT["ops"]["{name}"] is a {type(function).__name__}, expected a function')
    declares = entries.get("declares", {})
    if not isinstance(declares, dict):
        raise SubjectError(f'{given}: SUBJECT["declares"] is a {type(declares).__name__}, expected a dictionary by op')
    for name, declared in declares.items():
        _check_declared(given, name, declared)
    if not callable(entries.get("checked", dict)):
        raise SubjectError(f'{given}: SUBJECT["checked"] must be a function that returns a context manager')
    return Subject(entries["name"], entries["framework"], ops, entries.get("device"),
                   declares, entries.get("checked"))  # fmt: skip


def _check_declared(given: str, name: str, declared: Any) -> None:
    where = f'{given}: SUBJECT["declares"]["{name}"]'
    if name not in op_names():
        raise SubjectError(f'{given}: SUBJECT["declares"] speaks of an unknown op {name!r}')
    if not isinstance(declared, dict) or not set(declared) <= {"class", "depth"}:
        raise SubjectError(f'{where} is {declared!r}, expected a dictionary with "class" and "depth"')
    if declared.get("class", "direct") not in ("direct", "log"):
        raise SubjectError(f'{where}["class"] is {declared["class"]!r}, expected "direct" or "log"')
    if not re.fullmatch(r"any|sequential|tree|chunk:[1-9]\d*", str(declared.get("depth", "any"))):
        raise SubjectError(
            f'{where}["depth"] is {declared["depth"]!r}, expected sequential, tree, chunk:<steps> or any'
        )


def _import(given: str) -> ModuleType:
    if given in BUILT_IN:
        return _executed(given, lambda: importlib.import_module(BUILT_IN[given]))
    path = Path(given)
    if not given:
        raise SubjectError(f"the subject's name is empty; {ACCEPTED}")
    is_module_name = all(part.isidentifier() for part in given.split("."))
    if path.suffix == ".py" or "/" in given or (path.exists() and not is_module_name):
        if not path.exists():
            raise SubjectError(f"{given}: no such file; {ACCEPTED}")
        if path.suffix != ".py" or not path.is_file():
            raise SubjectError(f"{given}: is not a Python file; {ACCEPTED}")
        spec = importlib.util.spec_from_file_location(f"mmrec_subject_{path.stem}", path)
        assert spec is not None and spec.loader is not None
        execute = spec.loader.exec_module
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses and pickles of the subject look themselves up
        sys.path.insert(0, str(path.resolve().parent))  # its neighbours, as when it is run as a script
        return _executed(given, lambda: (execute(module), module)[1])
    if not is_module_name:
        raise SubjectError(f"{given}: no such module; {_meant(given)}{ACCEPTED}")
    return _executed(given, lambda: importlib.import_module(given))


def _executed(given: str, run: Callable[[], ModuleType]) -> ModuleType:
    try:
        return run()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if given in BUILT_IN and missing not in ("", "mmrec"):
            extra = given.removesuffix("-parallel")
            raise SubjectError(
                f"{given}: needs {missing}, which is not installed; install the extra {extra!r}, "
                f"as in python3 -m pip install 'mmrec-conformance[{extra}]'"
            ) from None
        if error.name and (given == error.name or given.startswith(f"{error.name}.")):
            what = "is not a Python file" if Path(given).exists() else "no such module"
            raise SubjectError(f"{given}: {what}; {_meant(given)}{ACCEPTED}") from None
        raise SubjectError(f"{given}: cannot be imported: {error}{_place(error, given)}") from None
    except Exception as error:
        told = " ".join(str(error).split())
        raise SubjectError(
            f"{given}: cannot be imported: {type(error).__name__}: {told}{_place(error, given)}"
        ) from None


def _meant(given: str) -> str:
    """The built-in whose name is nearly this one, as a question; "" when there is none."""
    near = difflib.get_close_matches(given, BUILT_IN, n=1)
    return f"did you mean {near[0]}? " if near else ""


def _place(error: Exception, given: str) -> str:
    """Where the subject's file was when it was raised, or the innermost code of anyone's; "" where Python says it."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if frame.filename != __file__ and "importlib" not in frame.filename]  # fmt: skip
    own = [frame for frame in frames if Path(frame.filename).resolve() == Path(given).resolve()]
    place = (own or frames)[-1:]
    return "".join(f" ({Path(frame.filename).name}:{frame.lineno})" for frame in place)
