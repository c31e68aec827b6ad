"""Compile what will be timed, in processes side by side (compiler.py), before any clock runs.

What they compile reaches the process that times through the compilers' own caches on disk: Triton's, Inductor's, and JAX's,
which `device.settle` keeps where all find them. A case that fails here is no finding, and a line that says so: it fails again,
and is reported, when it is timed, or is compiled there. One that ran out of memory beside others is tried again alone.

What a compiler chooses by measuring must not be chosen here, where others compute at the same time. XLA measures the
ways to multiply matrices, and keeps what it chose: JAX's ops with weights are left to the process that times. Triton's
autotuner keeps its choice where a library asks for that, and Inductor's does by itself: peers.UNKEPT and compiler.py turn it
off. What they compiled they keep always.
"""

import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace

from mmrec.benchmarks.cases import Case, measures_to_compile
from mmrec.benchmarks.compiler import Process
from mmrec.benchmarks.device import Device
from mmrec.benchmarks.implementations import in_triton
from mmrec.benchmarks.peers import peer_of
from mmrec.benchmarks.roofs import bytes_moved
from mmrec.benchmarks.work import free_bytes, ran_out_of_memory

# What a process holds at most while it computes a case, in what the call must move: arguments in another layout, a second
# set of them, what is saved for the backward pass. An estimate; where it is too low, the case runs out of memory, and waits.
HELD = 2.5
ALONE = 2**30  # and what it holds before, which is the device's code and the libraries' own
EVERY = 15.0  # seconds between two lines that say how far it is


def compile_ahead(cases: Iterable[Case], device: Device, seconds: float, say: Callable[[str], None]) -> None:
    """Every case that compiles, the first ones of each framework first, for so many seconds at most. Says what it could not."""
    chosen = other_regimes_last([case for case in cases if is_compiled(case) and not measures_to_compile(case)])
    queue = Queue(chosen, time.monotonic() + seconds)
    total, count = len(chosen), min(os.cpu_count() or 1, len(chosen))
    if not total:
        return
    say(f"compiling {total} cases in {count} processes, for {seconds:.0f} s at most")
    began, room = time.monotonic(), Room(free_bytes(device) - count * ALONE)
    with ThreadPoolExecutor(count) as pool:
        frameworks = itertools.cycle(dict.fromkeys(case.framework for case in chosen))
        workers = {pool.submit(work_through, queue, room, next(frameworks), count) for _ in range(count)}
        while wait(workers, timeout=EVERY).not_done:
            say(f"{total - len(queue.waiting)} of {total} cases begun after {time.monotonic() - began:.0f} s")
        for worker in workers:
            worker.result()
    for case, reason in queue.failed:
        say(f"not compiled ahead: {case}: {' '.join(reason.replace('not timed: ', '').split())[:200]}")
    left = len(queue.waiting) + len(queue.again)
    say(f"compiled in {time.monotonic() - began:.0f} s" + (f", {left} cases not reached" if left else ""))


def is_compiled(case: Case) -> bool:
    """Whether anything is: what consists of PyTorch's own kernels is not."""
    return not peer_of(case).eager if case.peer else case.framework == "jax" or in_triton(case.implementation)


def other_regimes_last(cases: list[Case]) -> list[Case]:
    """What differs from a case before it in its numbers only comes when that one's kernels are there, and is not compiled by
    two processes at once."""
    first = {replace(case, regime=""): case for case in reversed(cases)}
    return sorted(cases, key=lambda case: first[replace(case, regime="")] is not case)


class Queue:
    """The cases that nobody has begun, those to be tried again when no others are left, and those that failed."""

    def __init__(self, cases: Iterable[Case], deadline: float):
        self.waiting, self.again, self.failed = deque(cases), deque[Case](), list[tuple[Case, str]]()
        self.deadline, self.lock = deadline, threading.Lock()

    @property
    def seconds_left(self) -> float:
        return max(0.0, self.deadline - time.monotonic())

    def take(self, framework: str) -> tuple[Case, bool] | None:
        """The next one, if there is one and time for it, and whether it wants the device for itself; of that framework while
        there are any: a process loads one."""
        with self.lock:
            if not self.seconds_left:
                return None
            if not self.waiting:
                return (self.again.popleft(), True) if self.again else None
            case = next((case for case in self.waiting if case.framework == framework), self.waiting[0])
            self.waiting.remove(case)
            return case, False

    def give_back(self, case: Case, reason: str, was_alone: bool) -> None:
        """One that failed: who ran out of memory beside others gets it all once."""
        if ran_out_of_memory(reason) and not was_alone:
            self.again.append(case)
        else:
            self.failed.append((case, reason))


class Room:
    """The device's memory, shared out among the processes: a case waits until it fits, or is alone."""

    def __init__(self, size: float):
        self.size, self.free, self.users, self.changed = size, size, 0, threading.Condition()

    @contextmanager
    def held(self, size: float) -> Iterator[None]:
        with self.changed:
            self.changed.wait_for(lambda: not self.users or size <= self.free)
            self.users, self.free = self.users + 1, self.free - size
        try:
            yield
        finally:
            with self.changed:
                self.users, self.free = self.users - 1, self.free + size
                self.changed.notify_all()


def work_through(queue: Queue, room: Room, framework: str, sharers: int) -> None:
    """Give a process one case after the other; where it ends, a new one takes the next case."""
    process: Process | None = None
    while taken := queue.take(framework):
        case, alone = taken
        with room.held(room.size if alone else HELD * bytes_moved(case)):
            process = process or Process(sharers)
            reason = process.compiles(case, queue.seconds_left)
            if reason:
                process.close()
                process = None
        if reason:
            queue.give_back(case, reason, alone)
    if process:
        process.close()
