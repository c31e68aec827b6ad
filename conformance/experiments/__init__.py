"""Claims of the sources, tried: one file a claim, one clause EXP-n a file, found by listing this folder.

No implementation is judged here. Every file has ``run(profile)``, which measures with the reference and with NumPy
float32 and returns what the result file records:

    clause, claim, source    which claim this is, and where it stands
    statements               the claim taken apart: sentence -> whether it was found to hold
    outcome                  "reproduced" when all of them hold, "refuted" when none does, else "qualified"
    found                    the finding in a sentence or two
    numbers                  what was measured
"""

import importlib
import pkgutil
from types import ModuleType
from typing import Any


def all_experiments() -> dict[str, ModuleType]:
    """Every experiment by its file's name."""
    names = [module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")]
    return {name: importlib.import_module(f"{__name__}.{name}") for name in names}


def in_order(findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Findings in the order of their clauses."""
    return sorted(findings, key=lambda finding: int(finding["clause"].rpartition("-")[2]))
