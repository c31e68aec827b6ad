"""Compile kernels ahead of time for an architecture that need not be here, in a child process, and weigh them.

A module offers its kernels by `compile_specs()`: a list of objects with `kernel`, `signature`, `constexprs`, `options`
and, if it likes, `storage` and `attrs` (what is known of arguments, such as the alignment of pointers), such that

    triton.compile(ASTSource(fn=kernel, signature=signature, constexprs=constexprs, attrs=attrs), target=...,
                   options=options)

compiles them. Triton decides when it decorates a kernel whether to interpret it, so the child never has
TRITON_INTERPRET set.

    echo '{"subject": "triton", "files": [...], "capabilities": [90]}' | python -m mmrec.conformance.gate.compiling ANSWER.json

It loads the subject once and is then forked, as often as there are cores: a kernel takes up to ten seconds, nearly all of
them in one pass of Triton's (TritonGPUCoalesce), which threads of one process would wait for. Triton finds again what it
has compiled before, by the text of the kernel and of all that it calls, wherever that lies: what a change left as it was
is compiled once for both revisions, and what was weighed once is kept too.
"""

import json
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, wait
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from mmrec.conformance.gate.children import PROGRESS, Children, Say
from mmrec.conformance.gate.sass import weigh

CAPABILITIES = (80, 90)
EVERY = 10.0  # seconds between two lines that say how far it is
Weights = dict[str, Any]  # of one variant on one architecture: the figures, or {"error": why it does not compile}
Kernels = dict[str, dict[str, dict[str, Weights]]]  # by file, variant and architecture


def compile_files(children: Children, subject: str, files: Iterable[str], say: Say) -> Kernels:
    """Every kernel of the files of one tree, for every architecture."""
    root = children.tree.root.resolve()
    there = [str(root / file) for file in files if (root / file).is_file()]
    if not there:
        return {}
    request = {"subject": subject, "files": there, "capabilities": CAPABILITIES}
    answer = children.ask("mmrec.conformance.gate.compiling", request, without="TRITON_INTERPRET", say=say)
    return {Path(path).relative_to(root).as_posix(): variants for path, variants in answer.items()}


# ---- the child's end ------------------------------------------------------------------------


class Task(NamedTuple):
    """One variant of a kernel for one architecture."""

    module: str
    place: int  # in what its compile_specs() lists
    capability: int


def compile_all(subject: str, files: list[str], capabilities: list[int]) -> Kernels:
    """The kernels of the named files, which loading the subject imports."""
    from mmrec.conformance.subjects import load

    load(subject)
    named = {name: getattr(module, "__dict__", {}) for name, module in list(sys.modules.items())}
    paths = {name: str(Path(one["__file__"]).resolve()) for name, one in named.items()
             if callable(one.get("compile_specs")) and one.get("__file__")}  # fmt: skip
    tasks = [Task(name, place, capability) for name, path in paths.items() if path in files
             for place in range(len(specs_of(name))) for capability in capabilities]  # fmt: skip
    answer: Kernels = {}
    for task, weights in zip(tasks, side_by_side(tasks), strict=True):
        variant = names_of(specs_of(task.module))[task.place]
        answer.setdefault(paths[task.module], {}).setdefault(variant, {})[f"sm_{task.capability}"] = weights
    return answer


def side_by_side(tasks: list[Task]) -> list[Weights]:
    """The weights of each, and how far it is on stderr."""
    if not tasks:
        return []
    forked = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(min(os.cpu_count() or 1, len(tasks)), mp_context=forked) as pool:
        futures = [pool.submit(weights_of_task, task) for task in tasks]
        while waiting := wait(futures, timeout=EVERY).not_done:
            done = f"{len(tasks) - len(waiting)} of {len(tasks)} kernels compiled"
            print(f"{PROGRESS}{done}", file=sys.stderr, flush=True)
        return [future.result() for future in futures]


@cache
def specs_of(module: str) -> list[Any]:
    return sys.modules[module].compile_specs()


def weights_of_task(task: Task) -> Weights:
    return weights_of(compile_one(specs_of(task.module)[task.place], task.capability))


def compile_one(spec: Any, capability: int) -> Any:
    """What Triton makes of it, or the exception it raises: whatever the compiler says is the finding."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    attrs = getattr(spec, "attrs", None)
    source = ASTSource(fn=spec.kernel, signature=spec.signature, constexprs=spec.constexprs, attrs=attrs)
    try:
        return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=spec.options)
    except Exception as error:
        return error


def weights_of(compiled: Any) -> Weights:
    import triton

    if isinstance(compiled, Exception):
        return {"error": f"{type(compiled).__name__}: {(str(compiled).strip().splitlines() or [''])[-1][:200]}"}
    weights = weigh(compiled.asm["cubin"], compiled.asm["ptx"], triton.knobs.nvidia.cuobjdump.path)
    return {**weights, "shared": compiled.metadata.shared, "warps": compiled.metadata.num_warps}


def names_of(specs: Iterable[Any]) -> list[str]:
    """A name for each, which stays when block sizes and warps are tuned: kernel, storage and what chooses its meaning.

    Choices are texts, truths and dtypes; numbers are tuning. Specs that only numbers tell apart are counted: "x 2".
    """
    names = []
    for spec in specs:
        chosen = [
            value if isinstance(value, str) else name if value is True else str(value)
            for name, value in spec.constexprs.items()
            if not isinstance(value, int | float) or value is True
        ]
        storage = getattr(spec, "storage", "")
        words = [spec.kernel.__name__, storage, *(word for word in chosen if word not in ("", storage))]
        names.append(" ".join(filter(None, words)))
    seen: Counter[str] = Counter()
    for place, name in enumerate(names):
        seen[name] += 1
        names[place] = f"{name} {seen[name]}" if seen[name] > 1 else name
    return names


def triton_version() -> str:
    """The compiler that is here; "" when there is none."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("triton")
    except PackageNotFoundError:
        return ""


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(compile_all(**json.load(sys.stdin))))
