"""Do the clocks wait for the device, and do their readings add up?"""

import sys
from types import SimpleNamespace

import pytest

from mmrec.benchmarks import clocks
from mmrec.benchmarks.clocks import EventClock, PendingClock
from mmrec.benchmarks.measurement import effort


class FakeEvent:
    """A GPU on which every event comes 250 ms after the one before."""

    made, reached = 0, 0.0

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        FakeEvent.made += 1
        self.milliseconds = 250.0 * FakeEvent.made

    def synchronize(self):
        FakeEvent.reached = self.milliseconds

    def elapsed_time(self, later):
        assert self.milliseconds <= later.milliseconds <= FakeEvent.reached
        return later.milliseconds - self.milliseconds


def test_a_reading_waits_for_its_event_and_adds_the_time_since_the_last(monkeypatch):
    slept = []
    monkeypatch.setitem(
        sys.modules, "torch", SimpleNamespace(cuda=SimpleNamespace(Event=FakeEvent, _sleep=slept.append))
    )
    clock = EventClock()

    assert [clock() for _ in range(4)] == [0.0, 0.25, 0.5, 0.75]
    assert len(slept) == 4


def test_the_host_gets_a_head_start_of_what_it_needed_before(monkeypatch):
    slept, now = [], iter([0.0, 0.0, 0.002, 0.002, 0.002, 0.002, 9.0, 9.0])
    monkeypatch.setitem(
        sys.modules, "torch", SimpleNamespace(cuda=SimpleNamespace(Event=FakeEvent, _sleep=slept.append))
    )
    monkeypatch.setattr(clocks.time, "perf_counter", lambda: next(now))
    clock = EventClock()

    enqueued = [(clock(), clock.enqueued)[1] for _ in range(4)]

    assert enqueued == pytest.approx([0.0, 0.002, 0.0, 8.998])  # a round, nothing between rounds, a long one
    head_start = int(clocks.CYCLES * 0.003)
    assert slept == [0, head_start, head_start, int(clocks.CYCLES * clocks.LONGEST_HEAD_START)]


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
