"""How long does each case take? The fixtures and the summary are in conftest.py."""

import pytest

pytest.importorskip("pytest_benchmark", reason="not installed: pip install 'mmrec-conformance[benchmarks]'")

from mmrec.benchmarks.cases import all_cases
from mmrec.benchmarks.clocks import clock_of
from mmrec.benchmarks.device import device_kind
from mmrec.benchmarks.peers import peer_cases


def parameters():
    """Every case, peers among those they are compared with, each with its framework's clock."""
    kind = device_kind()
    cases = [*all_cases(kind), *peer_cases(kind)]
    groups = list(dict.fromkeys(case.group for case in cases))
    cases.sort(key=lambda case: groups.index(case.group))  # stable: the baseline stays the first of its group

    def mark(case):
        return pytest.mark.benchmark(group=case.group, timer=clock_of(case.framework, kind))

    return [pytest.param(case, id=str(case), marks=mark(case)) for case in cases]


@pytest.mark.parametrize("case", parameters())
def test_speed(work, timed, benchmark):
    timed(benchmark, work)
