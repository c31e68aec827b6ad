"""The benchmarks' options, fixtures and summary. Nothing here changes a run that holds no benchmark."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

DEFAULT_RESULT = Path("results/result.json")
DEFAULT_TIMINGS = Path("results/benchmarks.json")
RUN = pytest.StashKey[Any]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("mmrec benchmarks")
    group.addoption("--result", type=Path, metavar="FILE", dest="mmrec_benchmark_result",
                    help=f"the judge's result file; only what passed is timed (default: {DEFAULT_RESULT})")  # fmt: skip
    group.addoption("--timings", type=Path, metavar="FILE", dest="mmrec_timings", default=DEFAULT_TIMINGS,
                    help=f"where the times go, for the report (default: {DEFAULT_TIMINGS})")  # fmt: skip
    group.addoption("--scaling", action="store_true", dest="mmrec_scaling",
                    help="also time one scan and one recurrence along T, B and D, for the report's figure")  # fmt: skip
    group.addoption("--budget", type=float, metavar="S", dest="mmrec_budget",
                    help="seconds for all cases together (default: 420 on a GPU, 900 on a CPU)")  # fmt: skip
    group.addoption("--implementation", action="append", default=[], metavar="NAME", dest="mmrec_implementations",
                    help="time only this one and the peers of its framework (repeatable)")  # fmt: skip
    group.addoption("--check-thresholds", action="store_true", dest="mmrec_check_thresholds",
                    help="fail the run where a speed falls short of benchmarks/thresholds.toml")  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    from mmrec.benchmarks.run import Run

    option = config.option
    budget = getattr(option, "mmrec_budget", None)
    if budget is not None and not budget >= 0:
        raise pytest.UsageError(f"--budget: {budget:g} is not a number of seconds, 0 or more")
    config.stash[RUN] = Run(budget=budget)
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


def cases_of(session: pytest.Session) -> list[Any]:
    return [item.callspec.params["case"] for item in session.items if is_benchmark(item)]  # type: ignore[attr-defined]


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Keep what identifies a machine and drop its momentary clock rate, which made every comparison warn."""
    machine_info["cpu"] = {name: machine_info["cpu"].get(name) for name in ("brand_raw", "arch", "count")}


# ---- one case ---------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> Any:
    """The device and its rates, measured at the start of this run."""
    from mmrec.benchmarks.device import measure, settle

    settle()
    run = request.config.stash[RUN]
    run.device = measure(sorted({case.dtype for case in cases_of(request.session)}))
    return run.device


@pytest.fixture(scope="session")
def judged(request: pytest.FixtureRequest, device: Any) -> Any:
    """The verdicts on everything selected for this run."""
    from mmrec.benchmarks.implementations import missing_here
    from mmrec.benchmarks.judgement import Judgement, Refused, judgement, names_of
    from mmrec.conformance.calls import why_not_writable

    if reason := why_not_writable(getattr(request.config.option, "mmrec_timings", DEFAULT_TIMINGS).parent):
        pytest.exit(f"benchmarks: --timings: {reason}", returncode=pytest.ExitCode.USAGE_ERROR)
    ours = [case for case in cases_of(request.session) if not case.peer]
    wanted = {(c.implementation, c.op, c.dtype) for c in ours if not missing_here(c.implementation, device.kind)}
    given = getattr(request.config.option, "mmrec_benchmark_result", None)
    path = given or (DEFAULT_RESULT if DEFAULT_RESULT.is_file() else None)
    if not wanted:
        return Judgement({}, {})
    try:
        return judgement(wanted, path, names_of(device, wanted), lambda text: announce(request.config, text))
    except Refused as refused:
        pytest.exit(f"benchmarks: {refused}", returncode=pytest.ExitCode.USAGE_ERROR)


@pytest.fixture(scope="session")
def compiled(request: pytest.FixtureRequest, device: Any, judged: Any) -> None:
    """What can be compiled before the clocks run; from here on the budget is spent."""
    config = request.config
    cases = cases_of(request.session)
    config.stash[RUN].compile_ahead(cases, device, judged, lambda text: announce(config, text))


def announce(config: pytest.Config, text: str) -> None:
    """A line in the terminal, past pytest's capture."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        reporter.ensure_newline()
        reporter.write_line(f"benchmarks: {text}")


@pytest.fixture
def excused(case: Any, pytestconfig: pytest.Config) -> Any:
    """Skips, and keeps the reason, where a case cannot or may not be timed."""
    from contextlib import contextmanager

    from mmrec.benchmarks.run import Excused, excusing

    @contextmanager
    def skipping() -> Any:
        try:
            with excusing(case):
                yield
        except Excused as reason:
            pytestconfig.stash[RUN].leave_out(case, str(reason))
            pytest.skip(str(reason))

    return skipping


@pytest.fixture
def work(
    case: Any, device: Any, judged: Any, compiled: None, excused: Any, pytestconfig: pytest.Config
) -> Iterator[Callable[[], Any]]:
    """The case as a function of nothing."""
    from mmrec.benchmarks.work import prepare

    run = pytestconfig.stash[RUN]
    try:
        with excused():
            function = prepare(run.source(case, device, judged), case, device)
        yield function
    finally:
        run.note_compilations(case)


@pytest.fixture
def timed(case: Any, device: Any, judged: Any, excused: Any, pytestconfig: pytest.Config) -> Callable[..., None]:
    """Times ``work`` by the ``benchmark`` fixture and puts beside the time what the device allows."""
    from mmrec.benchmarks.clocks import EventClock, clock_of
    from mmrec.benchmarks.measurement import effort

    def time_it(benchmark: Any, work: Callable[[], Any]) -> None:
        with excused():
            # pedantic() and not benchmark(): its rounds and calls are ours to choose, and it does not calibrate with
            # readings of the clock, each of which would drain the GPU's queue.
            clock = clock_of(case.framework, device.kind)
            calls = effort(work, clock, device.kind)
            benchmark.pedantic(work, **calls)
            if benchmark.stats is None:  # --benchmark-disable: it ran once, without a time
                return
            host = clock.enqueued / calls["iterations"] if isinstance(clock, EventClock) else None
            row = pytestconfig.stash[RUN].add(case, device, benchmark.stats.stats.min, judged, host)
            benchmark.extra_info.update(row)

    return time_it


# ---- the end ----------------------------------------------------------------------------------


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the timings; what is wrong with the run fails it."""
    run, option = session.config.stash[RUN], session.config.option
    run.conclude(getattr(option, "mmrec_check_thresholds", False))
    if run.rows:
        from mmrec.benchmarks.document import document_of
        from mmrec.conformance import timings

        timings.save(document_of(run), getattr(option, "mmrec_timings", DEFAULT_TIMINGS))
    if run.problems and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(config: pytest.Config) -> Iterator[None]:
    """The table, what was not timed, and what is wrong; then pytest-benchmark's comparison.

    Where --benchmark-compare-fail finds a regression, it says which and raises, of which pytest would print 50 lines.
    """
    run, option = config.stash[RUN], config.option
    if run.rows or run.untimed:
        from mmrec.benchmarks.table import print_run

        thresholds_checked = getattr(option, "mmrec_check_thresholds", False)
        print_run(run, thresholds_checked, getattr(option, "mmrec_timings", DEFAULT_TIMINGS))
    try:
        yield
    except Exception as error:
        if not (isinstance(error, pytest.UsageError) or type(error).__name__ == "PerformanceRegression"):
            raise
        pytest.exit(f"benchmarks: {error}", returncode=pytest.ExitCode.TESTS_FAILED)
