"""Compile what will be timed, in processes side by side, before any clock runs.

    python -m mmrec.benchmarks.compile_ahead

is one of them: it reads a case a line, does once what timing it will do, and answers each with a line. What it compiles
reaches the process that times through the compilers' own caches on disk: Triton's, Inductor's, and JAX's, which
`device.settle` turns on. A case that fails here is no finding: it fails again, and is reported, when it is timed.

What a compiler chooses by measuring must not be chosen here, where others compute at the same time. XLA measures the
ways to multiply matrices, and keeps what it chose: JAX's ops with weights are left to the process that times. Triton's
autotuner keeps its choice where a library asks for that (peers.UNKEPT turns it off); what it compiled it keeps always.
"""

import itertools
import json
import os
import subprocess
import sys
import threading
import time
import types
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict
from typing import Any

from mmrec.benchmarks.cases import Case, Lengths, measures_to_compile
from mmrec.benchmarks.clocks import clock_of
from mmrec.benchmarks.device import Device, settle, unmeasured
from mmrec.benchmarks.dialogue import answer_lines
from mmrec.benchmarks.judgement import environment
from mmrec.benchmarks.measurement import too_slow
from mmrec.benchmarks.peer_check import check
from mmrec.benchmarks.peers import UNKEPT, peer_of
from mmrec.benchmarks.roofs import bytes_moved
from mmrec.benchmarks.work import calls_of, free_bytes, source_of, too_large

# What a process holds at most while it computes a case, in what the call must move: arguments in another layout, and
# what is saved for the backward pass. An estimate; where it is too low, the case runs out of memory here, and only here.
HELD = 2
ALONE = 2**30  # and what it holds before, which is the device's code and the libraries' own
ONE_THREAD = {"OMP_NUM_THREADS": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"}  # each: the processes are many
EVERY = 15.0  # seconds between two lines that say how far it is


def compile_ahead(cases: Iterable[Case], device: Device, seconds: float, say: Callable[[str], None]) -> None:
    """Every case once, the first ones of each framework first, for so many seconds at most."""
    queue = Queue([case for case in cases if not measures_to_compile(case)], time.monotonic() + seconds)
    total, count = len(queue.waiting), min(os.cpu_count() or 1, len(queue.waiting))
    if not total:
        return
    say(f"compiling {total} cases in {count} processes, for {seconds:.0f} s at most")
    began, room = time.monotonic(), Room(free_bytes(device) - count * ALONE)
    with ThreadPoolExecutor(count) as pool:
        frameworks = itertools.cycle(dict.fromkeys(case.framework for case in queue.waiting))
        workers = {pool.submit(work_through, queue, room, next(frameworks)) for _ in range(count)}
        while wait(workers, timeout=EVERY).not_done:
            say(f"{total - len(queue.waiting)} of {total} cases begun after {time.monotonic() - began:.0f} s")
        for worker in workers:
            worker.result()
    left = f", {len(queue.waiting)} cases not reached" if queue.waiting else ""
    say(f"compiled in {time.monotonic() - began:.0f} s{left}")


class Queue:
    """The cases that nobody has begun."""

    def __init__(self, cases: Iterable[Case], deadline: float):
        self.waiting, self.deadline, self.lock = deque(cases), deadline, threading.Lock()

    @property
    def seconds_left(self) -> float:
        return max(0.0, self.deadline - time.monotonic())

    def take(self, framework: str) -> Case | None:
        """The next one, if there is one and time for it; of that framework while there are any: a process loads one."""
        with self.lock:
            if not self.waiting or not self.seconds_left:
                return None
            case = next((case for case in self.waiting if case.framework == framework), self.waiting[0])
            self.waiting.remove(case)
            return case


class Room:
    """The device's memory, shared out among the processes: a case waits until it fits, or is alone."""

    def __init__(self, size: float):
        self.free, self.users, self.changed = size, 0, threading.Condition()

    def take(self, size: float) -> None:
        with self.changed:
            self.changed.wait_for(lambda: not self.users or size <= self.free)
            self.users, self.free = self.users + 1, self.free - size

    def give_back(self, size: float) -> None:
        with self.changed:
            self.users, self.free = self.users - 1, self.free + size
            self.changed.notify_all()


def work_through(queue: Queue, room: Room, framework: str) -> None:
    """Give a process one case after the other; where it ends, a new one takes the next case."""
    process: Process | None = None
    while case := queue.take(framework):
        size = HELD * bytes_moved(case)
        room.take(size)
        try:
            process = process or Process()
            if not process.compiles(case, queue.seconds_left):
                process.close()
                process = None
        finally:
            room.give_back(size)
    if process:
        process.close()


def command() -> list[str]:
    return [sys.executable, "-m", "mmrec.benchmarks.compile_ahead"]


class Process:
    """One that compiles."""

    def __init__(self, variables: Mapping[str, str] = types.MappingProxyType({})) -> None:
        # JAX gives memory back at once, because other processes need it; the code it compiles is the same.
        settled = {**environment(), **UNKEPT, "XLA_PYTHON_CLIENT_ALLOCATOR": "platform", **ONE_THREAD, **variables}
        self.popen = subprocess.Popen(command(), text=True, env=settled, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=subprocess.DEVNULL)  # fmt: skip
        self.ready = False

    def compiles(self, case: Case, seconds: float) -> bool:
        """Whether it did, in time: one that failed may have left the device unusable for its process."""
        assert self.popen.stdin is not None and self.popen.stdout is not None
        limit = threading.Timer(seconds, self.popen.kill)
        limit.start()
        try:
            self.ready = self.ready or bool(self.popen.stdout.readline())
            self.popen.stdin.write(json.dumps(asdict(case)) + "\n")
            self.popen.stdin.flush()
            return self.popen.stdout.readline() == "{}\n"
        except BrokenPipeError:
            return False
        finally:
            limit.cancel()

    def close(self) -> None:
        self.popen.kill()
        self.popen.communicate()


# ---- the process's end -------------------------------------------------------------------------------


def begin() -> tuple[Callable[[Any], Any], Any]:
    settle()
    device = unmeasured()

    def answer(question: dict[str, Any]) -> Any:
        compile_case(Case(**{**question, "lengths": Lengths(**question["lengths"])}), device)
        return {}

    return answer, {}


def compile_case(case: Case, device: Device) -> None:
    """Call it once, after what comes before it is timed: a peer's check, and the first steps of a long loop."""
    source = source_of(case)
    if case.peer:
        check(peer_of(case), case.dtype, case.direction, case.regime, device.kind)
    if too_large(case, device) or too_slow(case, source, device):
        return
    next(calls_of(source, case, device))()
    clock_of(case.framework, device.kind)()  # waits for it
    free_bytes(device)  # gives back what PyTorch keeps


if __name__ == "__main__":
    answer_lines(begin)
