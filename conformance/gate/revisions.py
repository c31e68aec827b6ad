"""Which files changed since a revision, and what did the repository look like then? Everything that asks git."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mmrec.conformance.gate import WrongCall


@dataclass(frozen=True)
class Tree:
    """The files of a repository at one moment: the working tree, or a checkout of an older revision."""

    root: Path
    files: tuple[str, ...]  # relative to the root, sorted


@dataclass(frozen=True)
class Change:
    """The working tree against the commit at which it left a revision."""

    given: str  # the revision as it was named
    commit: str
    files: tuple[str, ...]  # changed, added, deleted or renamed, committed or not; relative to the root


def repository_of(place: Path) -> Path:
    """The root of the repository that `place` lies in; WrongCall when it lies in none."""
    try:
        return Path(git(place, "rev-parse", "--show-toplevel"))
    except FileNotFoundError:
        raise WrongCall("git is not installed; the gate asks it what changed") from None
    except subprocess.CalledProcessError:
        raise WrongCall(f"{place}: is not in a git repository; call the gate inside the one to be checked") from None


def tree_at(root: Path) -> Tree:
    """What git knows under `root`, and new files that it does not ignore."""
    listed = git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    return Tree(root, tuple(sorted(name for name in set(listed) if name and (root / name).is_file())))


def change_since(root: Path, revision: str) -> Change:
    """What the working tree changed since it left `revision`: what others did to that branch meanwhile is not ours."""
    try:
        commit = git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except subprocess.CalledProcessError:
        raise WrongCall(
            f"--base: {revision!r} is no revision of {root}; expected a branch, a tag or a commit that git knows"
        ) from None
    try:
        commit = git(root, "merge-base", commit, "HEAD")
    except subprocess.CalledProcessError:
        raise WrongCall(
            f"--base: {revision!r} and HEAD share no commit that git has here; expected a revision this work started "
            "from (a shallow clone lacks it: fetch the whole history)"
        ) from None
    changed = git(root, "diff", "--name-only", "--no-renames", "-z", commit).split("\0")
    new = git(root, "ls-files", "-z", "--others", "--exclude-standard").split("\0")
    return Change(revision, commit, tuple(sorted({name for name in changed + new if name})))


@contextmanager
def checkout(root: Path, commit: str) -> Iterator[Tree]:
    """The tree of a commit in a temporary folder, taken away afterwards."""
    with tempfile.TemporaryDirectory(prefix="gate-") as folder:
        place = Path(folder).resolve() / "base"
        try:
            git(root, "worktree", "add", "--detach", "--force", str(place), commit)
        except subprocess.CalledProcessError as error:
            raise WrongCall(f"--base: git cannot check out {commit}: {error.stderr.strip()}") from None
        try:
            yield tree_at(place)
        finally:
            git(root, "worktree", "remove", "--force", str(place))


def git(place: Path, *arguments: str) -> str:
    """What git prints; CalledProcessError when it refuses."""
    command = ["git", "-c", "core.quotePath=off", "-C", str(place), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip("\n")
