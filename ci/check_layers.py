"""Who may import whom: the table of the house, enforced by reading the imports (`tox -e static`)."""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

MAY_IMPORT = {
    "spec": set(),
    "reference": {"spec"},
    "numerics": {"spec", "reference"},
    "impls": set(),  # a backend's own folder apart: it could be lifted out and shipped alone
    "conformance": {"spec", "reference", "numerics", "impls"},
    "benchmarks": {"spec", "reference", "numerics", "impls", "conformance"},
}
FRAMEWORKS = {"torch", "jax", "triton", "jaxlib"}
MAY_USE = {"torch_ops": {"torch"}, "triton_ops": {"torch", "triton"}, "jax_ops": {"jax"}}


def violations(path: Path, room: str) -> list[str]:
    """What a file imports against the table, one line each."""
    found = []
    backend = path.relative_to(ROOT / room).parts[0] if room == "impls" else ""
    allowed_frameworks = MAY_USE.get(backend, set()) if room == "impls" else FRAMEWORKS
    if room in ("spec", "reference", "numerics"):
        allowed_frameworks = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            top, *rest = name.split(".")
            if top == "mmrec" and rest and rest[0] != room and rest[0] not in MAY_IMPORT[room]:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {room} imports mmrec.{rest[0]}")
            if top in FRAMEWORKS and top not in allowed_frameworks:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {backend or room} imports {top}")
            if room == "impls" and top == "mmrec":
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}: a backend imports {name}; use relative imports")
    return found


def check() -> list[str]:
    """All violations of the tree; tests may import what they test with."""
    found = []
    for room in MAY_IMPORT:
        for path in sorted((ROOT / room).rglob("*.py")):
            if "tests" not in path.relative_to(ROOT).parts:
                found += violations(path, room)
    return found


if __name__ == "__main__":
    problems = check()
    print("\n".join(problems) or "layers: every import is allowed")
    sys.exit(1 if problems else 0)
