"""The process in which a subject lives: what it does there, crash or hang, the judge survives.

``Worker`` is the judge's end: it starts the process, sends requests, waits no longer than the limit, and turns a
dead or silent process into an answer. ``respond`` is the subject's end, and can be called directly for subjects
that are trusted (the mutants).
"""

import importlib.metadata
import os
import signal
import sys
import traceback
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from mmrec.conformance.frameworks import framework
from mmrec.conformance.start import context_for, prepare_frameworks
from mmrec.conformance.subjects import Subject, SubjectError, load, require_device
from mmrec.conformance.verdicts import Verdict


@dataclass
class Request:
    """One question to a subject, as plain values."""

    op: str
    arrays: dict[str, np.ndarray]  # float64 values in argument order
    dtype: str
    options: dict[str, Any] = field(default_factory=dict)
    layout: str = "contiguous"
    cotangent: np.ndarray | None = None  # g: ask for gradients too
    refill: dict[str, np.ndarray] | None = None  # then ask again with these values in the same buffers
    dtypes: dict[str, str] = field(default_factory=dict)  # another dtype for single arguments (bad input)
    checked: bool = False  # in the subject's checked mode
    twice: bool = True  # ask a second time and compare bits


@dataclass
class Answer:
    """What the subject did."""

    failure: Verdict | None = None  # RAISED, CRASHED or TIMED_OUT, and WRONG_DTYPE when no array came back
    message: str = ""
    exception: str = ""  # the exception's class
    result: np.ndarray = field(default_factory=lambda: np.empty(0))
    dtype: str = ""
    gradients: dict[str, np.ndarray] = field(default_factory=dict)
    gradient_dtypes: dict[str, str] = field(default_factory=dict)
    mutated: list[str] = field(default_factory=list)  # arguments whose values changed
    aliased: list[str] = field(default_factory=list)  # arguments the result shares memory with
    same_twice: bool = True
    refilled: np.ndarray = field(default_factory=lambda: np.empty(0))  # the result for the second set of values


def respond(subject: Subject, request: Request) -> Answer:
    """Put one question to the subject and observe everything it does."""
    speak = framework(subject.framework)
    function, options = subject.ops[request.op], request.options
    answer = Answer()
    try:
        arrays = {
            name: speak.make(values, request.dtypes.get(name, request.dtype), request.layout,
                             _one_row(values), subject.device)
            for name, values in request.arrays.items()
        }  # fmt: skip
        with subject.checked() if request.checked and subject.checked else nullcontext():
            first, gradients = _ask(speak, function, arrays, request, subject)
            answer.result, answer.dtype = speak.read(first)
            for name, gradient in gradients.items():
                answer.gradients[name], answer.gradient_dtypes[name] = speak.read(gradient)
            returned = [first, *gradients.values()]
            answer.aliased = [name for name, array in arrays.items()
                              if any(speak.shares_memory(one, array) for one in returned)]  # fmt: skip
            if request.twice:
                second, again = _ask(speak, function, arrays, request, subject)
                answer.same_twice = _same_bits(answer.result, speak.read(second)[0]) and all(
                    _same_bits(answer.gradients[name], speak.read(gradient)[0]) for name, gradient in again.items()
                )
            for name, array in arrays.items():
                if request.dtypes.get(name) is None and not _same_bits(speak.read(array)[0], request.arrays[name]):
                    answer.mutated.append(name)
            if request.refill is not None:
                arrays = {name: speak.refill(array, request.refill[name]) for name, array in arrays.items()}
                answer.refilled = speak.read(speak.call(function, arrays, options))[0]
    except TypeError as error:
        kind = Verdict.WRONG_DTYPE if str(error).startswith("returned ") else Verdict.RAISED
        return Answer(failure=kind, message=_told(error), exception="TypeError")
    except Exception as error:  # whatever a subject raises is an answer
        return Answer(failure=Verdict.RAISED, message=_told(error), exception=type(error).__name__)
    return answer


def _ask(speak: Any, function: Any, arrays: dict, request: Request, subject: Subject) -> tuple[Any, dict[str, Any]]:
    if request.cotangent is None:
        return speak.call(function, arrays, request.options), {}
    layout = "contiguous" if request.layout == "expanded" else request.layout  # rows of g differ
    g = speak.make(request.cotangent, request.dtype, layout, False, subject.device)
    return speak.gradients(function, arrays, request.options, g)


def _one_row(values: np.ndarray) -> bool:
    """Whether all rows are the same, as the judge makes them for the expanded layout."""
    return values.ndim > 1 and values.shape[0] > 0 and _same_bits(values, np.broadcast_to(values[:1], values.shape))


def _same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    one, other = np.ascontiguousarray(one), np.ascontiguousarray(other)
    return one.shape == other.shape and bool(
        np.all((one.view(np.int64) == other.view(np.int64)) | (np.isnan(one) & np.isnan(other)))
    )


def _told(error: BaseException) -> str:
    """The error in one line, with the place in the subject's code that raised it."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "conformance" not in f.filename]
    place = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}{place}"


# ---- the judge's end ------------------------------------------------------------------------


@dataclass(frozen=True)
class Profile:
    """What the judge needs to know of a subject in another process."""

    name: str
    framework: str
    ops: tuple[str, ...]
    declares: dict[str, dict[str, Any]]
    checked: bool
    differentiable: bool
    strided: bool  # whether arrays have memory layouts
    interpreted: bool  # Triton's interpreter: long sequences are out of reach
    environment: dict[str, str]


def describe(subject: Subject) -> Profile:
    speak = framework(subject.framework)
    interpreted = os.environ.get("TRITON_INTERPRET") == "1" and "triton" in sys.modules
    declares = {op: dict(declared) for op, declared in subject.declares.items()}
    return Profile(subject.name, subject.framework, tuple(subject.ops), declares, subject.checked is not None,
                   speak.DIFFERENTIABLE, speak.STRIDED, interpreted, _environment(subject))  # fmt: skip


def _environment(subject: Subject) -> dict[str, str]:
    packages = {"numpy": ("numpy",), "torch": ("torch", "triton"), "jax": ("jax", "jaxlib")}[subject.framework]
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    if subject.framework == "torch":
        import torch

        cuda = torch.cuda.is_available() and subject.device != "cpu"
        found["device"] = torch.cuda.get_device_name() if cuda else "cpu"
    if subject.framework == "jax":
        found["device"] = framework("jax").device_named(subject.device).device_kind
    return found


def _serve(pipe: Connection, given: str) -> None:
    """The child's loop: load the subject, say what it is, answer until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the judge's to handle
    os.environ.setdefault(
        "OMP_NUM_THREADS", "1"
    )  # many small calls side by side: threads would only wait for each other
    try:
        prepare_frameworks(given)
        subject = load(given)
        framework(subject.framework).prepare()
        require_device(subject, given)
    except SubjectError as error:
        pipe.send(error)
        return
    pipe.send(describe(subject))
    while True:
        try:
            request = pipe.recv()
        except EOFError:
            return
        pipe.send(respond(subject, request))


class Worker:
    """A subject in a child process, restarted when it dies, never waited for longer than ``time_limit``."""

    START_LIMIT = 180.0  # importing a framework on a busy machine
    STEPS_WITHIN_LIMIT = 16384  # longer sequences may take longer, in proportion

    def __init__(self, given: str, time_limit: float = 60.0):
        self.given, self.time_limit = given, time_limit
        self.process: Any = None
        self.pipe: Connection | None = None
        self.profile = self._start()

    def _start(self) -> Profile:
        context = context_for(self.given)
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, self.given), daemon=True)
        self.process.start()
        theirs.close()
        said = self._receive(self.START_LIMIT)
        if isinstance(said, SubjectError):
            raise said
        if isinstance(said, Answer):
            raise SubjectError(f"{self.given}: while being imported, {said.message}")
        return said

    def ask(self, request: Request) -> Answer:
        """The subject's answer; CRASHED or TIMED_OUT when there is none."""
        if not self.process.is_alive():
            self._start()
        assert self.pipe is not None
        with suppress(BrokenPipeError, ConnectionResetError):  # it died since the last answer: receiving says how
            self.pipe.send(request)
        steps = max((array.shape[1] for array in request.arrays.values() if array.ndim == 3), default=0)
        return self._receive(self.time_limit * max(1.0, steps / self.STEPS_WITHIN_LIMIT))

    def _receive(self, limit: float) -> Any:
        assert self.pipe is not None
        try:
            if self.pipe.poll(limit):
                return self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join(5)
            code = self.process.exitcode
            how = f"killed by {signal.Signals(-code).name}" if code and code < 0 else f"exited with code {code}"
            return Answer(
                failure=Verdict.CRASHED, message=f"the process was {how}" if code and code < 0 else f"the process {how}"
            )
        self.close()
        return Answer(failure=Verdict.TIMED_OUT, message=f"no answer within {limit:g} s; the process was stopped")

    def close(self) -> None:
        if self.process is not None and self.process.is_alive():
            self.process.kill()
            self.process.join(5)
