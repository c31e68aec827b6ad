"""Which Triton kernels are compiled in the process that times, although that was to be done ahead (compile_ahead.py)?"""

from importlib.util import find_spec
from typing import Any


class Compilations:
    """Kernels that this process compiles and does not find in Triton's cache, with seconds, from `listen` on."""

    def __init__(self) -> None:
        self.found: list[tuple[str, float]] = []

    def listen(self) -> None:
        if find_spec("triton") is not None:
            import triton

            triton.knobs.compilation.listener = self.hear

    def hear(self, *, metadata: dict[str, Any], times: Any, cache_hit: bool, **_: Any) -> None:
        """What Triton calls after each compilation; its times are in microseconds."""
        if not cache_hit:
            self.found.append((metadata.get("name", "a kernel"), times.total / 1e6))

    def take(self) -> list[tuple[str, float]]:
        """Those since the last call."""
        found, self.found = self.found, []
        return found
