"""Did it get slower? Two revisions timed in turn, and how sure one can be of their ratio.

Each revision lives in a process of its own (`mmrec.benchmarks.stopwatch`, a program that is spoken to, not imported),
with the same inputs and the same clock. They take turns, base - change - change - base, so that a machine that warms up
or is disturbed does so to both. The ratio is that of the medians; its interval comes from drawing the turns again, with
replacement. A slowdown counts only where the whole interval lies above the noise.
"""

import json
import subprocess
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np

from mmrec.conformance.gate.children import Children, Say, ended, next_line

TURNS, FEWEST_TURNS = 20, 8  # of four timings each
CASE_SECONDS = {"cpu": 15.0, "cuda": 1.5}  # that the turns of a case may take, unless the fewest take longer
RESAMPLES, CONFIDENCE = 4000, 0.95

# For all subjects together: on a GPU some hundred cases of two seconds, half of which are for preparing them.
BENCH_SECONDS = {"cpu": 900.0, "cuda": 240.0}

# Ratios within which two processes with the same code differ; measured by racing a revision against itself.
NOISE = {"cpu": 1.15, "cuda": 1.05}

Timings = list[tuple[float, float]]  # two of one revision in each turn


@dataclass(frozen=True)
class Ratio:
    """Seconds of the change over seconds of the base, with its interval."""

    subject: str
    case: str
    device: str
    kind: str  # of device
    before: float  # median seconds
    now: float
    low: float
    high: float

    @property
    def ratio(self) -> float:
        return self.now / self.before

    @property
    def slower(self) -> bool:
        return self.low > NOISE[self.kind]

    @property
    def verdict(self) -> str:
        return "SLOWER" if self.slower else "faster" if self.high < 1 / NOISE[self.kind] else "within noise"


class Silent(Exception):
    """A stopwatch gave no answer; the message says why."""


class Stopwatch:
    """A revision's process: put a question, wait for the answer."""

    def __init__(self, children: Children, subject: str):
        self.process = subprocess.Popen(children.command("mmrec.benchmarks.stopwatch", subject), text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                        cwd=children.tree.root, env=children.environment())  # fmt: skip
        self.about = self.receive()

    def ask(self, **question: Any) -> Any:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Silent("the process of a revision ended") from None
        return self.receive()

    def receive(self) -> Any:
        """The next answer; Silent when there is none in time, or when it is an error."""
        line = next_line(self.process)
        if not line:
            raise Silent(f"the process of a revision {ended(self.process)}")
        answer = json.loads(line)
        if isinstance(answer, dict) and "error" in answer:
            raise Silent(answer["error"])
        return answer

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


def race(
    now: Children, before: Children, subject: tuple[str, str], name: str, ops: Iterable[str], seconds: float,
    say: Say = lambda text: None,
) -> Iterator[Ratio | str]:  # fmt: skip
    """A ratio for each case of the ops, or a sentence why there is none. `subject`: as it is loaded now, and before.

    What seems slower is raced again by fresh processes, and the milder of the two races counts: a process can be slow
    for its whole life for reasons of its own, such as where its memory came to lie. Each heat ends after so many seconds.
    """
    found = list(heat(now, before, subject, name, ops, seconds, say))
    suspects = {one.case for one in found if isinstance(one, Ratio) and one.slower}
    second = heat(now, before, subject, name, ops, seconds, say, suspects) if suspects else ()
    again = {one.case: one for one in second if isinstance(one, Ratio)}
    for one in found:
        yield one if isinstance(one, str) else min(one, again.get(one.case, one), key=lambda ratio: ratio.low)


def heat(
    now: Children, before: Children, subject: tuple[str, str], name: str, ops: Iterable[str], seconds: float, say: Say,
    only: Collection[str] | None = None,
) -> Iterator[Ratio | str]:  # fmt: skip
    """One process for each revision, and every case, or `only` those of these titles."""
    end = time.monotonic() + seconds
    with ExitStack() as stack:
        try:
            mine = stack.enter_context(closing(Stopwatch(now, subject[0])))
            base = stack.enter_context(closing(Stopwatch(before, subject[1])))
            if mine.about["reason"]:
                yield f"{name}: not timed: {mine.about['reason']}"
                return
            plans = [[case for case in mine.ask(plan=op) if only is None or case["title"] in only] for op in ops]
        except Silent as reason:
            yield f"{name}: not timed: {reason}"
            return
        # One case of every op before the second of any: the time may end.
        cases = [case for turn in zip_longest(*plans) for case in turn if case is not None]
        for place, case in enumerate(cases):
            if time.monotonic() > end:
                yield (f"{name}: {len(cases) - place} of {len(cases)} cases not timed: its {seconds:.0f} s were spent "
                       f"(--bench-seconds gives more), from {case['title']} on")  # fmt: skip
                return
            say(f"timing {name}: {place + 1} of {len(cases)}, {case['title']}")
            try:
                yield timed(mine, base, name, case)
            except Silent as reason:
                yield f"{name}, {case['title']}: not timed: {reason}"


def timed(mine: Stopwatch, base: Stopwatch, name: str, case: dict[str, Any]) -> Ratio:
    efforts = [stopwatch.ask(prepare=case) for stopwatch in (base, mine)]
    calls, seconds = max(one["calls"] for one in efforts), max(one["seconds"] for one in efforts)
    turns = int(min(TURNS, max(FEWEST_TURNS, CASE_SECONDS[mine.about["kind"]] / (4 * calls * seconds))))
    before, now = take_turns(base, mine, calls, turns)
    low, high = interval(before, now)
    medians = float(np.median(before)), float(np.median(now))
    return Ratio(name, case["title"], mine.about["device"], mine.about["kind"], *medians, low, high)


def take_turns(base: Stopwatch, mine: Stopwatch, calls: int, turns: int) -> tuple[Timings, Timings]:
    """Seconds a call of each revision: A, B, B, A, again and again."""
    before, now = [], []
    for _ in range(turns):
        first, second, third, fourth = (one.ask(calls=calls) for one in (base, mine, mine, base))
        before.append((first, fourth))
        now.append((second, third))
    return before, now


def interval(before: Timings, now: Timings, seed: int = 0) -> tuple[float, float]:
    """The confidence interval of median(now) / median(before), by drawing whole turns with replacement."""
    rng, turns = np.random.default_rng(seed), len(before)
    drawn = rng.integers(0, turns, (RESAMPLES, turns))
    medians = [np.median(np.asarray(times)[drawn].reshape(RESAMPLES, -1), axis=1) for times in (now, before)]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(medians[0] / medians[1], [tail, 1 - tail])
    return float(low), float(high)
