"""Where are a subject's ops and kernels written? Asked of the loaded subject, in a child process of its own.

Names that are put together while a program runs (`importlib.import_module(f"...{name}")`) are beyond a reader of
imports. The loaded functions know which module they come from.

    echo '"triton"' | python -m mmrec.conformance.gate.census ANSWER.json
"""

import importlib.util
import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmrec.conformance.subjects import SubjectError, load


def homes(function: Any) -> set[str]:
    """Source files of a callable and of everything it is wrapped in."""
    return {file for layer in layers(function) if (file := home(layer))}


def layers(function: Any) -> Iterator[Any]:
    """The callable, and what lies below its decorators and partial arguments."""
    seen: list[Any] = []
    while function is not None and not any(function is one for one in seen):
        seen.append(function)
        yield function
        function = next((getattr(function, name) for name in ("__wrapped__", "func", "__func__")
                         if hasattr(function, name)), None)  # fmt: skip


def home(layer: Any) -> str:
    """The file of the code itself: a decorator's wrapper carries the module name of what it wraps."""
    if inspect.isfunction(layer):
        return layer.__code__.co_filename
    owner = getattr(layer, "__self__", layer)  # the class of torch.autograd.Function.apply
    module = sys.modules.get(getattr(owner if inspect.isclass(owner) else type(owner), "__module__", ""))
    return getattr(module, "__file__", None) or ""


def kernel_files() -> list[str]:
    """Files of the loaded modules that say how their kernels are compiled."""
    named = [
        vars(module) for name, module in list(sys.modules.items()) if name != __name__ and hasattr(module, "__dict__")
    ]
    return [str(one["__file__"]) for one in named if callable(one.get("compile_specs")) and one.get("__file__")]


def census(given: str) -> dict[str, Any]:
    """What the gate needs to know of a subject; {"missing": why} when it cannot be loaded here."""
    try:
        subject = load(given)
    except SubjectError as error:
        return {"missing": str(error)}
    checked = homes(subject.checked) if subject.checked else set()
    triton = importlib.util.find_spec("triton") is not None
    return {
        "name": subject.name,
        "framework": subject.framework,
        "ops": {op: resolved(homes(function) | checked) for op, function in subject.ops.items()},
        "kernels": resolved(set(kernel_files())) if triton else [],
    }


def resolved(files: set[str]) -> list[str]:
    return sorted(str(Path(file).resolve()) for file in files)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(census(json.load(sys.stdin))))
