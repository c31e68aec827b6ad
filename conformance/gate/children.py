"""Child processes that import a subject from one tree or the other.

A tree's packages are put first on the child's import path: the folders that lead to them, or links under the names that
the packaging gives them. So it does not matter what is installed, and two revisions can be asked side by side.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mmrec.conformance.gate import WrongCall
from mmrec.conformance.gate.imports import Imports, package_folders
from mmrec.conformance.gate.revisions import Tree
from mmrec.conformance.subjects import BUILT_IN

Say = Callable[[str], None]
PROGRESS = "progress: "  # begins a line of a child that says how far it is
SILENT_SECONDS = 300.0  # after which a child that should load a framework, compile, or time one turn is given up
JUDGE = ("mmrec.spec", "mmrec.reference", "mmrec.numerics", "mmrec.conformance", "mmrec.benchmarks")


@dataclass(frozen=True)
class Located:
    """A subject, and where its source lies in the repository."""

    given: str  # as it was named: a built-in, a module, or a file relative to the root
    file: str  # relative to the root

    def within(self, tree: Tree) -> str:
        """What the judge is to load to get this subject of that tree."""
        return str(tree.root / self.file) if self.given.endswith(".py") else self.given


def locate(given: str, imports: Imports, place: Path) -> Located:
    """The subject's source in the repository; `place` is where a path given starts. WrongCall when it has none there."""
    accepted = "expected a .py file or a module of the repository that is gated"
    if given.endswith(".py"):
        path = (place / given).resolve()
        if not path.is_file():
            raise WrongCall(f"--subject: {given}: no such file; {accepted}")
        if not path.is_relative_to(imports.tree.root.resolve()):
            raise WrongCall(f"--subject: {given}: lies outside the repository {imports.tree.root}; {accepted}")
        file = str(PurePosixPath(path.relative_to(imports.tree.root.resolve())))
        if file not in imports.modules:
            raise WrongCall(f"--subject: {given}: git ignores this file, so no revision of it can be compared")
        return Located(file, file)
    files = imports.by_name.get(BUILT_IN.get(given, given), set())
    if len(files) != 1:
        found = f"is {len(files)} files there: {', '.join(sorted(files))}" if files else "no such module there"
        raise WrongCall(f"--subject: {given}: {found}; {accepted}")
    return Located(given, files.pop())


class Children:
    """Starts children that find one tree's packages first. The gate's own programs stay those of this process."""

    def __init__(self, tree: Tree, links: Path):
        self.tree = tree
        self.subjects = self._paths(links / "subjects", judge=False)
        self.judge = self._paths(links / "judge", judge=True)

    def _paths(self, links: Path, judge: bool) -> list[Path]:
        """Folders from which the tree's packages can be imported: of the judge's packages only those, or all but those."""
        found = [links]
        for name, folder in sorted(package_folders(self.tree).items()):
            if not name and not judge:
                found.append(self.tree.root / folder)
            elif name and (name in JUDGE) == judge:
                link = links.joinpath(*name.split("."))
                link.parent.mkdir(parents=True, exist_ok=True)
                if not link.exists():
                    link.symlink_to(self.tree.root / folder)
        usual = [self.tree.root, self.tree.root / "src"]
        return found if judge else found + [folder for folder in usual if folder.is_dir()]

    def environment(self, judge: bool = False, without: str = "") -> dict[str, str]:
        """This process's variables but one, with the tree first on the import path; with the tree's judge, where it holds
        one, if verdicts are to be given."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
        kept.pop(without, None)
        paths = [*self.subjects, *(self.judge if judge else ())]
        kept["PYTHONPATH"] = os.pathsep.join([*map(str, paths), *filter(None, [kept.get("PYTHONPATH")])])
        return kept

    def command(self, module: str, *arguments: str) -> list[str]:
        return [sys.executable, "-P", "-m", module, *arguments]

    def ask(self, module: str, request: Any, without: str = "", say: Say = lambda text: None) -> Any:
        """Run a program of ours that reads one JSON document and writes another; WrongCall with its words if it fails.

        `say` is told the lines that it prints after PROGRESS.
        """
        with tempfile.TemporaryDirectory() as folder:
            answer, said, far = Path(folder, "answer.json"), "", ""
            with subprocess.Popen(self.command(module, str(answer)), text=True, stdin=subprocess.PIPE, cwd=self.tree.root,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  env=self.environment(without=without)) as process:  # fmt: skip
                assert process.stdin is not None and process.stdout is not None
                with suppress(BrokenPipeError):  # it ended without reading: what it said is the reason
                    process.stdin.write(json.dumps(request))
                    process.stdin.close()
                while line := next_line(process):
                    if line.startswith(PROGRESS):
                        if line != far:  # it says so again and again, so that it is known to live
                            say(line.removeprefix(PROGRESS).strip())
                        far = line
                    else:
                        said = line.strip() or said
            if not answer.is_file():
                raise WrongCall(f"{module.rpartition('.')[2]} of {request}: {said or ended(process)}")
            return json.loads(answer.read_text())


def next_line(process: subprocess.Popen[str]) -> str:
    """What a child says next; "" when it ends, or when it is silent for too long and is therefore ended."""
    assert process.stdout is not None
    limit = threading.Timer(SILENT_SECONDS, process.kill)
    limit.start()
    try:
        return process.stdout.readline()
    finally:
        limit.cancel()


def ended(process: subprocess.Popen[str]) -> str:
    """How a child ended that gave no answer."""
    code = process.wait()
    killed = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return killed + f" (it may be silent for {SILENT_SECONDS:g} s)" * (code == -signal.SIGKILL)


@dataclass(frozen=True)
class Revision:
    """A tree, what imports what in it, and how processes are started on it."""

    imports: Imports
    children: Children

    @property
    def tree(self) -> Tree:
        return self.imports.tree
