"""Who imports whom? A graph of the files of a tree, read with ast; nothing is executed.

What a file depends on: the modules it imports, wherever the import stands (inside a function too); modules whose full
dotted name it holds as a string; and files in or below its own folder that a string names or matches ("scan.cu",
"*.json"). It depends on the *text* of the packages it lies in, and not on what those import: otherwise a package that
re-exports its modules would make each of them depend on all.

What it cannot see: names put together while the program runs. A subject's ops are therefore looked up in the loaded
subject (``census.py``), and the judge's rows by the rule with which the judge itself lists them (``touched.py``).
"""

import ast
import tomllib
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path, PurePosixPath

from mmrec.conformance.gate.revisions import Tree

LONGEST_NAME = 100  # a longer string is prose


class Imports:
    """The files of one tree and what each depends on; a file is read when it is first asked for."""

    def __init__(self, tree: Tree):
        self.tree = tree
        self.modules = {name for name in tree.files if name.endswith(".py")}
        self.data = [name for name in tree.files if not name.endswith(".py")]
        self._edges: dict[str, set[str]] = {}

    @cached_property
    def by_name(self) -> dict[str, set[str]]:
        """Files by the dotted names under which they can be imported."""
        found: dict[str, set[str]] = {}
        for file in self.modules:
            for name in self.names_of(file):
                found.setdefault(name, set()).add(file)
        return found

    def names_of(self, file: str) -> set[str]:
        """Dotted names of a module: from its topmost package, from the root, and as the packaging maps folders."""
        path = PurePosixPath(file)
        module = path.parent if path.name == "__init__.py" else path.with_suffix("")
        starts = {PurePosixPath("."): ""} | {PurePosixPath(to): name for name, to in package_folders(self.tree).items()}
        package = module.parent
        while str(package) != "." and str(package / "__init__.py") in self.modules:
            package = package.parent
        starts.setdefault(package, "")
        names = set()
        for start, prefix in starts.items():
            if module.is_relative_to(start):
                names.add(".".join(filter(None, [prefix, *module.relative_to(start).parts])))
        return names - {""}

    def reached_from(self, files: Iterable[str]) -> set[str]:
        """The files and everything they depend on, at any distance."""
        seen: set[str] = set()
        waiting = [file for file in files if file in self.modules]
        while waiting:
            file = waiting.pop()
            if file not in seen:
                seen.add(file)
                waiting += self.needs(file) & self.modules
        needed = {one for file in seen for one in self.needs(file)}
        return seen | needed | {package for file in seen for package in self._packages_of(file)}

    def needs(self, file: str) -> set[str]:
        """What one file depends on directly."""
        if file not in self._edges:
            try:
                syntax = ast.parse((self.tree.root / file).read_bytes())
            except SyntaxError:
                syntax = ast.Module([], [])  # whoever imports it will hear of it
            self._edges[file] = {one for node in ast.walk(syntax) for one in self._named_by(node, file)} - {file}
        return self._edges[file]

    def _named_by(self, node: ast.AST, file: str) -> Iterator[str]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from self._found(alias.name, file)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield from self._imported_from(node, alias.name, file)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value[:LONGEST_NAME]:
            yield from self.by_name.get(node.value, ()) if node.value.count(".") else ()
            yield from self._data_named(node.value, file)

    def _imported_from(self, node: ast.ImportFrom, name: str, file: str) -> Iterator[str]:
        """`from x import name`: the module x.name where there is one, and x otherwise."""
        if node.level == 0:
            assert node.module is not None
            module = f"{node.module}.{name}"
            yield from self._found(module, file) or self._found(node.module, file)
            return
        folder = PurePosixPath(file).parents[node.level - 1]
        package = folder.joinpath(*(node.module or "").split(".")) if node.module else folder
        yield from self._at(package / name) or self._at(package)

    def _found(self, dotted: str, importer: str) -> set[str]:
        """Files of that name; a script's neighbours are found too, as Python finds them."""
        return self.by_name.get(dotted, set()) | self._at(PurePosixPath(importer).parent.joinpath(*dotted.split(".")))

    def _at(self, module: PurePosixPath) -> set[str]:
        return {str(module) + ".py", str(module / "__init__.py")} & self.modules

    def _packages_of(self, file: str) -> Iterator[str]:
        for folder in PurePosixPath(file).parents:
            if str(folder / "__init__.py") not in self.modules:
                return
            yield str(folder / "__init__.py")

    def _data_named(self, text: str, file: str) -> Iterator[str]:
        pattern, folder = PurePosixPath(text).name, PurePosixPath(file).parent
        if len(text) <= LONGEST_NAME and pattern.strip(".*"):
            for name in self.data:
                if PurePosixPath(name).is_relative_to(folder) and fnmatch(PurePosixPath(name).name, pattern):
                    yield name


def package_folders(tree: Tree) -> dict[str, str]:
    """Where the packaging says that packages lie: dotted name -> folder ("" for all: {"": "src"})."""
    file = tree.root / "pyproject.toml"
    try:
        settings = tomllib.loads(file.read_text()) if file.is_file() else {}
    except tomllib.TOMLDecodeError:
        return {}
    folders = settings.get("tool", {}).get("setuptools", {}).get("package-dir", {})
    return {name: str(PurePosixPath(folder)) for name, folder in folders.items() if Path(tree.root, folder).is_dir()}
