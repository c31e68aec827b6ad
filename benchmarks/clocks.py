"""Clocks: what pytest-benchmark reads before and after every round.

pytest-benchmark runs a round of several calls between two readings of a `timer`. Each case names its timer in its
`benchmark` mark, so the fixture's own loop, statistics, saving and comparing all stay in use, and only the meaning
of "now" changes: a clock here is read after the device has finished everything it was given. Within a round the
calls queue up behind each other, as they do in a model; the wait is paid once a round and not once a call.
"""

import time
from typing import Any


class EventClock:
    """Seconds by the GPU's own events: what the Python around a round costs is in it only if the GPU waits for it.

    Each reading adds the time since the reading before, so that a round is one difference of two neighbouring
    events. (An event's time since a distant one comes in float32 milliseconds, too coarse after a minute.)
    """

    __name__ = "torch.cuda.Event"  # pytest-benchmark saves the timer's name

    def __init__(self) -> None:
        self.seconds = 0.0
        self.last: Any = None

    def __call__(self) -> float:
        import torch

        event = torch.cuda.Event(enable_timing=True)
        event.record()
        event.synchronize()
        if self.last is not None:
            self.seconds += self.last.elapsed_time(event) / 1000
        self.last = event
        return self.seconds


class PendingClock:
    """Wall seconds, read once the arrays in ``pending`` are there: for JAX, which returns before it has computed."""

    __name__ = "jax.block_until_ready"

    def __init__(self) -> None:
        self.pending: Any = ()

    def __call__(self) -> float:
        import jax

        jax.block_until_ready(self.pending)
        self.pending = ()
        return time.perf_counter()


events, pending = EventClock(), PendingClock()


def clock_of(framework: str, kind: str) -> Any:
    """The clock for a framework's calls on that kind of device."""
    if framework == "jax":
        return pending
    return events if kind == "cuda" else time.perf_counter
