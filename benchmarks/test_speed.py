"""How long does each case take? The fixtures and the summary are in conftest.py."""

import pytest

pytest.importorskip("pytest_benchmark", reason="not installed: pip install 'mmrec-conformance[benchmarks]'")
pytest.importorskip("torch", reason="PyTorch measures the device and is the baseline; it is not installed")

from mmrec.benchmarks.clocks import clock_of
from mmrec.benchmarks.device import device_kind, settle
from mmrec.benchmarks.peers import peer_cases
from mmrec.benchmarks.plans import in_order, only, plan_cases, scaling_cases

pytestmark = pytest.mark.filterwarnings("ignore")  # those of ours are errors where they are judged; here others run too


def pytest_generate_tests(metafunc):
    """Every case, each with its framework's clock."""
    settle()
    kind = device_kind()
    scaling = scaling_cases(kind) if getattr(metafunc.config.option, "mmrec_scaling", False) else ()
    cases = in_order([*plan_cases(kind), *scaling, *peer_cases(kind)])
    try:
        cases = only(cases, getattr(metafunc.config.option, "mmrec_implementations", []))
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None

    def mark(case):
        return pytest.mark.benchmark(group=case.group, timer=clock_of(case.framework, kind))

    metafunc.parametrize("case", [pytest.param(case, id=str(case), marks=mark(case)) for case in cases])


def test_speed(work, timed, benchmark):
    timed(benchmark, work)
