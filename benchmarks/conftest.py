"""The benchmarks' options, fixtures and summary. Nothing here changes a run that holds no benchmark."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DEFAULT_RESULT = Path("results/result.json")
ROWS = pytest.StashKey[list[dict[str, Any]]]()  # what was timed
UNTIMED = pytest.StashKey[list[dict[str, Any]]]()  # what was not, and why
PROBLEMS = pytest.StashKey[list[str]]()
DEVICE = pytest.StashKey[Any]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("mmrec benchmarks")
    group.addoption("--result", type=Path, metavar="FILE", dest="mmrec_benchmark_result",
                    help=f"the judge's result file; only what passed is timed (default: {DEFAULT_RESULT})")  # fmt: skip
    group.addoption("--check-thresholds", action="store_true", dest="mmrec_check_thresholds",
                    help="fail the run where a speed falls short of benchmarks/thresholds.toml")  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS], config.stash[UNTIMED], config.stash[PROBLEMS] = [], [], []
    option = config.option
    if not (getattr(option, "benchmark_compare", None) or getattr(option, "benchmark_histogram", None)):
        option.benchmark_quiet = True  # one table is enough; pytest-benchmark's is the one that compares runs


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Benchmarks beside each other would time each other: under pytest-xdist they are skipped."""
    if hasattr(config, "workerinput"):
        for item in items:
            if is_benchmark(item):
                item.add_marker(pytest.mark.skip(reason="benchmarks run one at a time: leave out pytest-xdist's -n"))


def is_benchmark(item: pytest.Item) -> bool:
    return "work" in getattr(item, "fixturenames", ())


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Keep what identifies a machine and drop its momentary clock rate, which made every comparison warn."""
    machine_info["cpu"] = {name: machine_info["cpu"].get(name) for name in ("brand_raw", "arch", "count")}


# ---- one case ---------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def device(pytestconfig: pytest.Config) -> Any:
    """The device and its rates, measured at the start of this run."""
    pytest.importorskip("torch", reason="PyTorch measures the device and is the baseline; it is not installed")
    from mmrec.benchmarks.device import measure, settle

    settle()
    pytestconfig.stash[DEVICE] = measure()
    return pytestconfig.stash[DEVICE]


@pytest.fixture(scope="session")
def judged(request: pytest.FixtureRequest, device: Any) -> Any:
    """The verdicts on everything selected for this run."""
    from mmrec.benchmarks.judgement import Judgement, Refused, judgement

    cases = [item.callspec.params["case"] for item in request.session.items if is_benchmark(item)]  # type: ignore[attr-defined]
    wanted = {(c.implementation, c.op, c.dtype) for c in cases if not c.peer and not unavailable(c, device)}
    given = getattr(request.config.option, "mmrec_benchmark_result", None)
    path = given or (DEFAULT_RESULT if DEFAULT_RESULT.is_file() else None)
    if not wanted:
        return Judgement({}, {})
    try:
        return judgement(wanted, path, names_of(device, wanted), lambda text: announce(request.config, text))
    except Refused as refused:
        pytest.exit(f"benchmarks: {refused}", returncode=pytest.ExitCode.USAGE_ERROR)


def names_of(device: Any, wanted: set[tuple[str, str, str]]) -> set[str]:
    """What the frameworks call this device, which is what the result file calls it."""
    if "jax" not in {subject for subject, _, _ in wanted}:
        return {device.name}
    import jax

    return {device.name, jax.devices()[0].device_kind}


def announce(config: pytest.Config, text: str) -> None:
    """A line in the terminal, past pytest's capture."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        reporter.ensure_newline()
        reporter.write_line(f"benchmarks: {text}")


def unavailable(case: Any, device: Any) -> str:
    """Why this case cannot be timed here, or ""."""
    from importlib.util import find_spec

    if case.implementation == "triton" and device.kind == "cpu":
        return "Triton is not timed on a CPU: there it is interpreted, which says nothing about the compiled kernel"
    for package in (case.framework, *(["triton"] if case.implementation == "triton" else [])):
        if find_spec(package) is None:
            return f"{package} is not installed"
    if case.framework == "jax":
        import jax

        if (jax.default_backend() == "gpu") != (device.kind == "cuda"):
            return f"PyTorch uses the {device.kind} device and JAX the {jax.default_backend()}: not the same device"
    return ""


@pytest.fixture
def work(case: Any, device: Any, judged: Any, pytestconfig: pytest.Config) -> Callable[[], Any]:
    """The case as a function of nothing; skips, with the reason, what cannot or may not be timed."""
    from mmrec.benchmarks.measurement import described
    from mmrec.benchmarks.peers import peer
    from mmrec.benchmarks.work import prepare
    from mmrec.conformance.subjects import load

    reason = unavailable(case, device)
    if not reason and not case.peer:
        reason = judged.reason_against((case.implementation, case.op, case.dtype))
    if reason:
        pytestconfig.stash[UNTIMED].append({**described(case), "reason": reason})
        pytest.skip(reason)
    function = peer(case.implementation).function if case.peer else load(case.implementation).ops[case.op]
    return prepare(function, case, device)


@pytest.fixture
def timed(case: Any, device: Any, judged: Any, pytestconfig: pytest.Config) -> Callable[[Any, Callable], None]:
    """Times ``work`` by the ``benchmark`` fixture and puts beside the time what the device allows."""
    from mmrec.benchmarks.clocks import clock_of
    from mmrec.benchmarks.measurement import baseline_of, effort, row_of

    def time_it(benchmark: Any, work: Callable[[], Any]) -> None:
        # pedantic() and not benchmark(): its rounds and calls are ours to choose, and it does not calibrate with
        # readings of the clock, each of which would drain the GPU's queue.
        benchmark.pedantic(work, **effort(work, clock_of(case.framework, device.kind), device.kind))
        if benchmark.stats is None:  # --benchmark-disable: it ran once, without a time
            return
        rows = pytestconfig.stash[ROWS]
        row = row_of(case, device, benchmark.stats.stats.min, baseline_of(case, rows))
        source = judged.sources.get((case.implementation, case.op, case.dtype))
        row |= {"passed": None, "judged": "a peer is not judged"} if case.peer else {"passed": True, "judged": source}
        rows.append(row)
        benchmark.extra_info.update(row)

    return time_it


# ---- the end ----------------------------------------------------------------------------------


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Impossible speeds fail every run; speeds below their threshold fail one that checks them."""
    from mmrec.benchmarks import thresholds

    config = session.config
    rows, untimed = config.stash[ROWS], config.stash[UNTIMED]
    problems = [f"suspicious: {line}" for line in thresholds.suspicious(rows)]
    if getattr(config.option, "mmrec_check_thresholds", False) and DEVICE in config.stash:
        expected = thresholds.read().get(config.stash[DEVICE].kind, {})
        problems += [f"threshold missed: {line}" for line in thresholds.misses(rows, untimed, expected)]
    config.stash[PROBLEMS] += problems
    if problems and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(tryfirst=True)  # pytest-benchmark's raises where --benchmark-compare-fail finds a regression
def pytest_terminal_summary(config: pytest.Config) -> None:
    """The table, what was not timed, and what is wrong."""
    rows, untimed, problems = config.stash[ROWS], config.stash[UNTIMED], config.stash[PROBLEMS]
    if not rows and not untimed:
        return
    from rich.console import Console

    from mmrec.benchmarks.table import WIDTH, print_table

    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    console.print()
    if rows:
        print_table(rows, config.stash[DEVICE], console)
    for reason in dict.fromkeys(row["reason"] for row in untimed):
        console.print(f"{sum(row['reason'] == reason for row in untimed)} x {reason}", style="dim", soft_wrap=True)
    for problem in problems:
        console.print(problem, style="bold red", soft_wrap=True, highlight=False)
    if getattr(config.option, "mmrec_check_thresholds", False):
        console.print(f"thresholds: {len(problems)} not kept" if problems else "thresholds: all kept", style="bold")
