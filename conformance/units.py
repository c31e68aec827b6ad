"""How tests are shared out among processes: which belong together, and in which order they are begun.

Tests of one subject, op, dtype and kind are a unit, run by one process one after another: the subject's framework
compiles the same programs for them. Units are begun longest first, since one that is begun last and takes longest is what
every other process waits for. How long is not known beforehand; what makes a unit long is. And a process stays with a
subject while it can: every subject it turns to must be started in a process of its own, and compiles again.
"""

import math
from typing import Any

import pytest
from xdist.scheduler import LoadGroupScheduling

from mmrec.conformance.ops import all_ops

KINDS = ("contract", "values", "gradients", "property", "long", "")  # in the order in which one process runs them
OF = " of "  # between a unit's name and its subject
SHARES = {"gradients": 4, "long": 3, "values": 2}  # of an op's time, most first; contract and properties are one unit


def kind_of(node: Any) -> str:
    marker = node.get_closest_marker("conformance")
    return marker.args[0] if marker else ""


def unit_of(subject: str, op: str, dtype: str, test: Any) -> str:
    """The name of the unit; long sequences are of one length each, and need no company."""
    kind = kind_of(test)
    part = test.name if kind == "long" else kind if kind in SHARES else ""
    return "-".join(filter(None, (op, dtype, part))) + OF + subject


def ordered(items: list[pytest.Item], distributed: bool) -> list[pytest.Item]:
    """In one process cheap kinds first, so that what is broken shows early; in many the long units first."""
    cheap_first = sorted(items, key=lambda item: KINDS.index(kind_of(item)))
    return sorted(cheap_first, key=expected_share, reverse=True) if distributed else cheap_first


def expected_share(item: pytest.Item) -> tuple[int, ...]:
    """Which of two tests is probably longer: step by step over long sequences, options to compile for, gradients."""
    if item.get_closest_marker("experiment"):
        return (3,)  # one of them evaluates every op over the lengths of the long tests
    if not kind_of(item):
        return (0,)
    _subject, name, _dtype, _part = item.callspec.params["question"]  # type: ignore[attr-defined]
    op = all_ops()[name]
    programs = math.prod(len(choices) for choices in op.options.values())
    return 2 if op.judged_by_defect else 1, programs, SHARES.get(kind_of(item), 1)


class StayingWithSubjects(LoadGroupScheduling):
    """Hands a process that is free the first unit of the subject it is with, else of one that nobody is with yet."""

    def _assign_work_unit(self, node: Any) -> None:
        self.workqueue.move_to_end(self._choice(node), last=False)
        super()._assign_work_unit(node)

    def _choice(self, node: Any) -> str:
        with_whom = {other: subject_of(next(reversed(units))) for other, units in self.assigned_work.items() if units}
        mine, taken = with_whom.get(node), set(with_whom.values())
        waiting = list(self.workqueue)
        own = [unit for unit in waiting if subject_of(unit) == mine]
        free = [unit for unit in waiting if subject_of(unit) not in taken]
        return (own or free or waiting)[0]


def subject_of(unit: str) -> str:
    return unit.partition(OF)[2]
