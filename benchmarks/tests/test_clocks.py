"""Do the clocks wait for the device, and do their readings add up?"""

import sys
from types import SimpleNamespace

import pytest

from mmrec.benchmarks.clocks import EventClock, PendingClock
from mmrec.benchmarks.measurement import effort


class FakeEvent:
    """A GPU on which every event comes 250 ms after the one before."""

    made = 0

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        FakeEvent.made += 1
        self.milliseconds, self.done = 250.0 * FakeEvent.made, False

    def synchronize(self):
        self.done = True

    def elapsed_time(self, later):
        assert self.done
        assert later.done
        return later.milliseconds - self.milliseconds


def test_a_reading_waits_for_its_event_and_adds_the_time_since_the_last(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=SimpleNamespace(Event=FakeEvent)))
    clock = EventClock()

    assert [clock() for _ in range(4)] == [0.0, 0.25, 0.5, 0.75]


def test_a_reading_waits_for_what_is_pending(monkeypatch):
    waited = []
    monkeypatch.setitem(sys.modules, "jax", SimpleNamespace(block_until_ready=waited.append))
    clock = PendingClock()
    clock.pending = "result"

    first, second = clock(), clock()

    assert waited == ["result", ()]
    assert first <= second


@pytest.mark.parametrize(("seconds", "calls", "rounds"), [(1e-4, 100, 30), (0.02, 1, 30), (0.2, 1, 4)])
def test_short_calls_are_bundled_and_long_ones_are_few(seconds, calls, rounds):
    now = [0.0]

    def work():
        now[0] += seconds

    assert effort(work, lambda: now[0], "cpu") == pytest.approx(
        {"rounds": rounds, "iterations": calls, "warmup_rounds": 1}, abs=1
    )


def test_what_takes_longer_than_a_case_may_is_called_three_times_in_all():
    now = [0.0]

    def work():
        now[0] += 10.0

    planned = effort(work, lambda: now[0], "cpu")

    assert planned == {"rounds": 1, "iterations": 1, "warmup_rounds": 0}
    assert now[0] == 20.0
