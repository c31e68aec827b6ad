"""Clocks: what pytest-benchmark reads before and after every round.

pytest-benchmark runs a round of several calls between two readings of a `timer`. Each case names its timer in its
`benchmark` mark, so the fixture's own loop, statistics, saving and comparing all stay in use, and only the meaning
of "now" changes: a clock here is read after the device has finished everything it was given. Within a round the
calls queue up behind each other, as they do in a model; the wait is paid once a round and not once a call.
"""

import time
from typing import Any

LONGEST_HEAD_START = 0.05  # seconds
CYCLES = 2e9  # of a GPU in a second, or somewhat less


class EventClock:
    """Seconds by the GPU's own events. The host has a head start: after a reading the GPU is kept busy for half as long again
    as the host needed to enqueue what came between the last readings (a round, or nothing). So what is timed is the
    device, and not the Python in front of it, which a model's other work hides; `enqueued` says how long that took. Only
    calls that wait for the GPU themselves, or fill its queue, are timed with their Python.

    Each reading adds the time since the one before, so that a round is one difference of two neighbouring events. (An
    event's time since a distant one comes in float32 milliseconds, too coarse after a minute.)
    """

    __name__ = "torch.cuda.Event"  # pytest-benchmark saves the timer's name

    def __init__(self) -> None:
        self.seconds = 0.0
        self.enqueued = 0.0
        self.began: tuple[Any, float] | None = None

    def __call__(self) -> float:
        import torch

        now = time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        event.synchronize()
        expected = 0.0
        if self.began is not None:
            before, then = self.began
            self.seconds += before.elapsed_time(event) / 1000
            expected, self.enqueued = self.enqueued, now - then
        torch.cuda._sleep(int(CYCLES * min(LONGEST_HEAD_START, 1.5 * max(expected, self.enqueued))))
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self.began = event, time.perf_counter()
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
