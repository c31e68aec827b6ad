"""How is the process of a subject started: which frameworks will it use, and what of them can be there already?

Importing PyTorch takes longer than everything else that a process does before its first answer. So one process imports
it, never runs a subject, and those that speak of PyTorch are forked from it. All others begin anew: JAX starts threads
when it is imported, which a fork would lose.
"""

import multiprocessing
import re
import sys
from multiprocessing.context import ForkServerContext, SpawnContext
from pathlib import Path

from mmrec.conformance.frameworks import FRAMEWORKS, framework
from mmrec.conformance.subjects import BUILT_IN


def context_for(given: str) -> SpawnContext | ForkServerContext:
    """What makes the processes of this subject."""
    if "torch" not in frameworks_of(given):
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mmrec.conformance.preload"])
    return context


def frameworks_of(given: str) -> list[str]:
    """The frameworks that the subject's source mentions; none when there is no source."""
    module = BUILT_IN.get(given, given)
    path = Path(module)
    if path.suffix != ".py" and all(part.isidentifier() for part in module.split(".")):
        path = _source_of(module) or path
    source = path.read_text(errors="replace") if path.is_file() else ""
    return [name for name in FRAMEWORKS if re.search(rf"\b{name}\b", source)]


def prepare_frameworks(given: str) -> None:
    """Poison the buffers of every framework the subject will use, before it can keep the originals."""
    for name in frameworks_of(given):
        try:
            framework(name).prepare()
        except ImportError:
            continue  # not installed here: a subject that needs it is told so when it is loaded


def _source_of(module: str) -> Path | None:
    """Where a module's source is. Unlike ``importlib.util.find_spec`` it imports no package that the module lies in."""
    found, places, name = None, None, ""
    for part in module.split("."):
        name = f"{name}.{part}".lstrip(".")
        found = next(filter(None, (finder.find_spec(name, places) for finder in sys.meta_path)), None)
        if found is None:
            return None
        places = found.submodule_search_locations
    return Path(found.origin) if found is not None and found.origin else None
