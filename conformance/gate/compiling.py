"""Compile kernels ahead of time for an architecture that need not be here, in a child process, and weigh them.

A module offers its kernels by `compile_specs()`: a list of objects with `kernel`, `signature`, `constexprs`, `options`
and, if it likes, `storage` and `attrs` (what is known of arguments, such as the alignment of pointers), such that

    triton.compile(ASTSource(fn=kernel, signature=signature, constexprs=constexprs, attrs=attrs), target=...,
                   options=options)

compiles them. Triton decides when it decorates a kernel whether to interpret it, so the child never has
TRITON_INTERPRET set.

    echo '{"subject": "triton", "files": [...], "capability": 90}' | python -m mmrec.conformance.gate.compiling ANSWER.json
"""

import json
import sys
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mmrec.conformance.gate.children import Children
from mmrec.conformance.gate.sass import weigh

CAPABILITIES = (80, 90)
Weights = dict[str, Any]  # of one variant on one architecture: the figures, or {"error": why it does not compile}
Kernels = dict[str, dict[str, dict[str, Weights]]]  # by file, variant and architecture


def compile_files(children: Children, subject: str, files: Iterable[str]) -> Kernels:
    """Every kernel of the files of one tree, for every architecture; the architectures side by side."""
    root = children.tree.root.resolve()
    there = [str(root / file) for file in files if (root / file).is_file()]
    found: Kernels = {}
    if not there:
        return found

    def ask(capability: int) -> dict[str, dict[str, Weights]]:
        request = {"subject": subject, "files": there, "capability": capability}
        return children.ask("mmrec.conformance.gate.compiling", request, without="TRITON_INTERPRET")

    with ThreadPoolExecutor() as pool:
        for capability, answer in zip(CAPABILITIES, pool.map(ask, CAPABILITIES), strict=True):
            for path, variants in answer.items():
                by_variant = found.setdefault(Path(path).relative_to(root).as_posix(), {})
                for variant, weights in variants.items():
                    by_variant.setdefault(variant, {})[f"sm_{capability}"] = weights
    return found


# ---- the child's end ------------------------------------------------------------------------


def compile_all(subject: str, files: list[str], capability: int) -> dict[str, dict[str, Weights]]:
    """The kernels of the named files, which loading the subject imports; by file and variant."""
    from mmrec.conformance.subjects import load

    load(subject)
    answer: dict[str, dict[str, Weights]] = {}
    with ThreadPoolExecutor() as pool:  # the disassembler takes longer than the compiler
        for module in list(sys.modules.values()):
            file = getattr(module, "__file__", None)
            if file and str(Path(file).resolve()) in files and callable(getattr(module, "compile_specs", None)):
                specs = module.compile_specs()
                weighed = [pool.submit(weights_of, compile_one(spec, capability)) for spec in specs]
                found = [future.result() for future in weighed]
                answer[str(Path(file).resolve())] = dict(zip(names_of(specs), found, strict=True))
    return answer


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
