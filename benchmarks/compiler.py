"""A process that compiles: it does once what timing a case will do.

    python -m mmrec.benchmarks.compiler

reads a case a line and answers each with a line: why it could not, or nothing. What it calls is what is timed, by the same
functions: a peer's check, the first steps of a long loop, and the call on every set of inputs, since what a solver does
depends on its input. `compile_ahead` starts some of them side by side, on one device.
"""

import json
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from mmrec.benchmarks.cases import Case, Lengths
from mmrec.benchmarks.clocks import clock_of
from mmrec.benchmarks.device import Device, settle, unmeasured
from mmrec.benchmarks.dialogue import answer_lines
from mmrec.benchmarks.judgement import environment
from mmrec.benchmarks.measurement import too_slow
from mmrec.benchmarks.peer_check import check
from mmrec.benchmarks.peers import UNKEPT, peer_of
from mmrec.benchmarks.work import calls_of, free_bytes, source_of, too_large

ONE_THREAD = {"OMP_NUM_THREADS": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"}  # each: the processes are many


def command() -> list[str]:
    return [sys.executable, "-m", "mmrec.benchmarks.compiler"]


class Process:
    """One of them, as its parent sees it, and how many share the device with it."""

    def __init__(self, sharers: int = 1, variables: Mapping[str, str] = types.MappingProxyType({})) -> None:
        # JAX gives memory back at once, because other processes need it; the code it compiles is the same.
        settled = {**environment(), **UNKEPT, "XLA_PYTHON_CLIENT_ALLOCATOR": "platform", **ONE_THREAD, **variables}
        self.popen = subprocess.Popen(command(), text=True, env=settled, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=subprocess.DEVNULL)  # fmt: skip
        self.ready, self.sharers = False, sharers

    def compiles(self, case: Case, seconds: float) -> str:
        """Why it did not, in time, or "". One that failed may have left the device unusable for its process."""
        assert self.popen.stdin is not None
        ends = time.monotonic() + seconds
        limit = threading.Timer(seconds, self.popen.kill)
        limit.start()
        try:
            if not self.ready:
                self._answer()
                self.ready = True
            self.popen.stdin.write(json.dumps({"case": asdict(case), "sharers": self.sharers}) + "\n")
            self.popen.stdin.flush()
            return self._answer()
        except (BrokenPipeError, EOFError):
            if time.monotonic() >= ends:
                return "the time was over"
            return f"its process ended with code {self.popen.wait()}"
        finally:
            limit.cancel()

    def _answer(self) -> str:
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        if not line:
            raise EOFError
        answer = json.loads(line)
        return answer.get("error") or answer.get("reason", "")

    def close(self) -> None:
        self.popen.kill()
        self.popen.communicate()


# ---- the process's end -------------------------------------------------------------------------------


def begin() -> tuple[Callable[[Any], Any], Any]:
    import torch._inductor.config

    settle()
    torch._inductor.config.autotune_local_cache = False  # as UNKEPT, which is for those who read the environment
    device = unmeasured()

    def answer(question: dict[str, Any]) -> Any:
        asked = question["case"]
        case = Case(**{**asked, "lengths": Lengths(**asked["lengths"])})
        return {"reason": compile_case(case, device, question["sharers"])}

    return answer, {}


def compile_case(case: Case, device: Device, sharers: int = 1) -> str:
    """Call it on every set of inputs, after what comes before it is timed; the reason why it was not called, or "".
    MemoryError where others leave too little memory.

    A device that is shared takes as many times longer: what would be too slow alone is not too slow for that.
    """
    source = source_of(case)
    if case.peer:
        check(peer_of(case), case.dtype, case.direction, case.regime, device.kind)
    if reason := too_large(case, device):
        raise MemoryError(reason)
    if reason := too_slow(case, source, device, sharers):
        return reason
    clock = clock_of(case.framework, device.kind)
    for call in calls_of(source, case, device):
        call()
        clock()  # waits for it
    del call  # the inputs may go
    free_bytes(device)  # gives back what PyTorch keeps
    return ""


if __name__ == "__main__":
    answer_lines(begin)
