"""What is wrong with a call of the command line, said in one line before anything is judged."""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import typer
from rich.console import Console
from rich.text import Text

WRONG_CALL = 2  # exit code; 0 conforms, 1 does not


def refuse(message: str) -> typer.Exit:
    """Say in one line what is wrong with the call; exit code 2."""
    Console(stderr=True, soft_wrap=True).print(Text(f"mmrec: {message}"))
    return typer.Exit(WRONG_CALL)


def what_can_be_judged(subjects: list[str]) -> set[str]:
    """The ops that some subject has; SubjectError when one cannot be judged as given, or two cannot be told apart.

    Each is loaded in a process of its own: what is wrong is said before any test.
    """
    from mmrec.conformance.subjects import SubjectError
    from mmrec.conformance.worker import Profile, Worker

    def profile_of(given: str) -> Profile:
        worker = Worker(given)
        worker.close()
        return worker.profile

    with ThreadPoolExecutor() as pool:
        profiles = list(pool.map(profile_of, subjects))
    by_name: dict[str, str] = {}
    for given, profile in zip(subjects, profiles, strict=True):
        if profile.name in by_name:
            raise SubjectError(
                f"{given}: is named {profile.name!r}, as {by_name[profile.name]} is; results are kept by name"
            )
        by_name[profile.name] = given
    return {name for profile in profiles for name in profile.ops}


def require_writable(argument: str, folder: Path) -> None:
    """Refuse a folder in which no result could be left, before anything is judged."""
    if reason := why_not_writable(folder):
        raise refuse(f"{argument}: {reason}")


def why_not_writable(folder: Path) -> str:
    """Make the folder where it is not there; why nothing could be left in it, or ""."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"{folder} cannot be made: {error.strerror}; expected a folder"
    try:
        tempfile.TemporaryFile(dir=folder).close()  # permissions do not tell: nobody may write to /proc
    except OSError:
        return f"{folder} cannot be written to"
    return ""
