"""Run mypy on the packages under their installed names.

The folders are mapped to `mmrec.*` at installation, which a type checker cannot see; a folder of links shows it.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("spec", "reference", "numerics", "impls", "conformance", "benchmarks")


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        namespace = Path(folder) / "mmrec"
        namespace.mkdir()
        for room in ROOMS:
            (namespace / room).symlink_to(ROOT / room)
        command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"),
                   "--cache-dir", str(ROOT / ".mypy_cache"), *[f"-pmmrec.{room}" for room in ROOMS]]  # fmt: skip
        return subprocess.run(command, cwd=folder, env={"MYPYPATH": folder, "PATH": ""}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
