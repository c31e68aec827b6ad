"""Where is kept on this machine what would only be computed again? In the user's cache folder, by its content."""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any


def cache_folder(name: str) -> Path:
    """The folder of that name; it need not exist."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home, "mmrec-conformance", name)


def kept(name: str, parts: tuple[bytes, ...], compute: Callable[[], Any]) -> Any:
    """What ``compute`` returns, in JSON, found by everything that it depends on: ``parts``."""
    digest = hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).hexdigest()
    path = cache_folder(name) / f"{digest}.json"
    with suppress(OSError, json.JSONDecodeError):  # not there, or cut short: it is computed
        return json.loads(path.read_text())
    found = compute()
    with suppress(OSError):  # a cache that cannot be written costs time only
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(f".{os.getpid()}")
        beside.write_text(json.dumps(found))
        beside.replace(path)  # at once: others read it
    return found
