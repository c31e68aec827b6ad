"""The ops in JAX: usable under jit, vmap and grad, on any device.

Every module of this folder whose name does not start with "_" holds one op, a function of the module's name;
`parallel` is a package and a subject of its own. They are found by listing the folder, re-exported here, and listed
once more in `SUBJECT` for whoever judges them.
`with checked():` makes every call look at the values of its arguments as well as at their shapes.
"""

import importlib
import pkgutil
from collections.abc import Callable

from ._checks import checked


def _find_ops() -> dict[str, Callable]:
    """Return the op of every public module of this folder, by name."""
    modules = (module for module in pkgutil.iter_modules(__path__) if not module.ispkg)
    names = sorted(module.name for module in modules if not module.name.startswith("_"))
    return {name: getattr(importlib.import_module(f"{__name__}.{name}"), name) for name in names}


_OPS = _find_ops()
globals().update(_OPS)

SUBJECT = {
    "name": "jax",
    "framework": "jax",
    "ops": _OPS,
    "checked": checked,
    "declares": {"log_decay_product": {"depth": "sequential"}},
}

__all__ = ["SUBJECT", "checked", *_OPS]
