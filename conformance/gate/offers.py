"""What do the subjects offer, in the change and in its base? Both are loaded: an op or a kernel may have moved or gone."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmrec.conformance.gate import WrongCall
from mmrec.conformance.gate.children import Located, Revision, locate
from mmrec.conformance.subjects import BUILT_IN

Census = dict[str, Any]


@dataclass(frozen=True)
class Offer:
    """One subject as `census` counted it in both revisions: {"missing": why} where it could not be loaded."""

    subject: Located
    now: Census
    before: Census  # {} where the base was not asked

    @property
    def missing(self) -> str:
        """Why it cannot be loaded now, or ""."""
        return self.now.get("missing", "")

    @property
    def broken(self) -> bool:
        """Whether it is the change that keeps it from being loaded."""
        return bool(self.missing) and "ops" in self.before

    @property
    def dropped(self) -> list[str]:
        """Ops that the base's has and this one has not."""
        return [] if self.missing else [op for op in self.before.get("ops", {}) if op not in self.now["ops"]]


def offers(
    given: Iterable[str], changed: Iterable[str] | None, now: Revision, before: Revision, place: Path
) -> list[Offer]:
    """The subjects to be gated, or the built-ins that lie here; WrongCall where there is none.

    The base is asked where some module changed (`changed` is None: all of them).
    """
    names = list(given) or [name for name, module in BUILT_IN.items() if module in now.imports.by_name]
    if not names:
        raise WrongCall(
            f"--subject: none given, and no built-in ({', '.join(BUILT_IN)}) lies in {now.tree.root}; "
            "name the .py file or the module that holds your SUBJECT"
        )
    subjects = [locate(name, now.imports, place) for name in names]
    asked = before is not now and (changed is None or any(file.endswith(".py") for file in changed))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counted_now = [pool.submit(count, subject, now) for subject in subjects]
        counted_before = [pool.submit(count, subject, before) for subject in subjects] if asked else []
        found = [one.result() for one in counted_now]
        earlier = [one.result() for one in counted_before] or [{}] * len(found)
    return [Offer(*one) for one in zip(subjects, found, found if before is now else earlier, strict=True)]


def count(subject: Located, there: Revision) -> Census:
    """What `census` says of the subject in one revision."""
    return there.children.ask("mmrec.conformance.gate.census", subject.within(there.tree))
