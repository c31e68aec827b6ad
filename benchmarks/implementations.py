"""Whom do we time? The judge's built-in subjects, with the ops each one has; nowhere is a second list of them."""

import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache

from mmrec.conformance.ops import all_ops
from mmrec.conformance.subjects import BUILT_IN, SubjectError, load

BASELINE = "torch"  # the first of its group, so that the others can be compared with it


@dataclass(frozen=True)
class Implementation:
    """A built-in subject, or the reason why there is none here."""

    name: str
    framework: str = ""
    ops: Mapping[str, Callable] = field(default_factory=dict)
    missing: str = ""

    @property
    def timed_ops(self) -> tuple[str, ...]:
        """Its ops; where it cannot be loaded all ops, so that the run says what it left out."""
        return tuple(all_ops()) if self.missing else tuple(op for op in all_ops() if op in self.ops)


@cache
def implementations() -> dict[str, Implementation]:
    """Every built-in subject by name, the baseline first."""
    return {name: _loaded(name) for name in sorted(BUILT_IN, key=lambda name: name != BASELINE)}


def _loaded(name: str) -> Implementation:
    try:
        with warnings.catch_warnings():  # what a framework warns of while it is imported is not this run's concern
            warnings.simplefilter("ignore")
            subject = load(name)
    except SubjectError as error:
        return Implementation(name, missing=str(error))
    return Implementation(name, subject.framework, subject.ops)


def in_triton(name: str) -> bool:
    return "triton" in BUILT_IN[name]


def missing_here(name: str, kind: str) -> str:
    """Why an implementation cannot be timed on that kind of device, or ""."""
    if kind == "cpu" and in_triton(name):
        return "Triton is not timed on a CPU: there it is interpreted, which says nothing about the compiled kernel"
    found = implementations()[name]
    return found.missing or _another_device(found.framework, kind)


def _another_device(framework: str, kind: str) -> str:
    if framework != "jax":
        return ""
    import jax

    if (jax.default_backend() == "gpu") == (kind == "cuda"):
        return ""
    return f"PyTorch uses the {kind} device and JAX the {jax.default_backend()}: not the same device"


if __name__ == "__main__":
    from mmrec.benchmarks.device import device_kind

    reasons = {name: missing_here(name, device_kind()) for name in implementations()}
    print(*(name for name, reason in reasons.items() if not reason))
    for name, reason in reasons.items():
        if reason:
            print(f"benchmarks: {name} is left out: {reason}", file=sys.stderr)
