"""The pytest plugin: whom to judge, how hard, and what comes out.

It parametrizes every conformance test over subjects, ops and dtypes, keeps each subject in a process of its own,
collects one record per test (across pytest-xdist's workers), and at the end writes ``result.json`` and the HTML
report and prints the table. Without ``--mmrec-subject`` it does nothing to other people's test runs.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

PROFILES = ("quick", "gate", "full")
QUICK_DTYPES = ["float32", "bfloat16"]  # while a kernel is being edited; the other profiles judge all four formats
RECORD, FINDING = "mmrec_record", "mmrec_finding"  # what tests and experiments leave among pytest's user properties


def arguments() -> list[str]:
    """What makes another pytest load this plugin: nothing where the distribution, which names it, is installed."""
    installed = any(entry.value == __name__ for entry in entry_points(group="pytest11"))
    return [] if installed else ["-p", __name__]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("mmrec", "conformance of sequence-model kernels")
    group.addoption("--mmrec-subject", action="append", default=[], metavar="NAME|FILE|MODULE",
                    help="whom to judge: torch, triton, jax, a .py file or a module; may be given several times")  # fmt: skip
    group.addoption("--mmrec-profile", choices=PROFILES, default="gate", help="how hard (default: gate)")
    group.addoption("--mmrec-seed", type=int, default=0, help="seed of everything drawn (default: 0)")
    group.addoption("--mmrec-op", action="append", default=[], metavar="OP", help="only these ops")
    group.addoption("--mmrec-dtype", action="append", default=[], metavar="DTYPE", help="only these dtypes")
    group.addoption("--mmrec-replay", metavar="CASE", help="only this case, as a failure printed it")
    group.addoption("--mmrec-result", default="results", metavar="DIR", help="where result.json and report.html go")
    group.addoption("--mmrec-time-limit", type=float, default=60.0, metavar="S", help="seconds one call may take")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "conformance(kind): one test of every subject, op and dtype; kind says which")
    config.addinivalue_line("markers", "experiment: one test of every claim of the sources, whoever is judged")
    if config.option.mmrec_subject:
        config.option.loadscopereorder = False  # units are handed out in our order, not by how many tests they have
        config.pluginmanager.register(Session(config), "mmrec-session")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Without a subject there is nothing to examine; with one, the session parametrizes."""
    if metafunc.config.option.mmrec_subject:
        return
    for marker, argument in (("conformance", "question"), ("experiment", "experiment")):
        if metafunc.definition.get_closest_marker(marker):
            metafunc.parametrize(argument, [])


class Session:
    """One judging run: parametrization, subjects, records, summary."""

    def __init__(self, config: pytest.Config):
        self.config = config
        self.records: list[dict[str, Any]] = []
        self.findings: list[dict[str, Any]] = []  # of the experiments
        self.document: dict[str, Any] | None = None
        self.started = time.time()
        self.workers: dict[str, Any] = {}
        self.dead: dict[tuple[str, str], Any] = {}  # (subject, op) that crashed or hung is not called again

    # ---- whom and what ------------------------------------------------------------------
    @property
    def chosen_ops(self) -> list[str]:
        from mmrec.conformance.ops import all_ops

        replay = self.config.option.mmrec_replay
        return [replay.split("/")[0]] if replay else self.config.option.mmrec_op or list(all_ops())

    @property
    def chosen_dtypes(self) -> list[str]:
        from mmrec.numerics.formats import FORMATS

        replay = self.config.option.mmrec_replay
        formats = QUICK_DTYPES if self.config.option.mmrec_profile == "quick" else list(FORMATS)
        return [replay.split("/")[1]] if replay else self.config.option.mmrec_dtype or formats

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        from mmrec.conformance.experiments import all_experiments
        from mmrec.conformance.ops import all_ops
        from mmrec.conformance.units import unit_of

        if metafunc.definition.get_closest_marker("experiment"):
            metafunc.parametrize("experiment", all_experiments() if self.tries_claims else [])
        marker = metafunc.definition.get_closest_marker("conformance")
        if marker is None:
            return

        rows, ids = [], []
        for subject in self.config.option.mmrec_subject:
            for op in (all_ops()[name] for name in self.chosen_ops):
                parts = op.properties if marker.args == ("property",) else (None,)
                for part in parts:
                    for dtype in self.chosen_dtypes:
                        unit = unit_of(subject, op.name, dtype, metafunc.definition)
                        rows.append(pytest.param((subject, op.name, dtype, part), marks=pytest.mark.xdist_group(unit)))
                        ids.append("-".join([Path(subject).stem, op.name, *([part.name] if part else []), dtype]))
        metafunc.parametrize("question", rows, ids=ids)

    @property
    def tries_claims(self) -> bool:
        """Whether the experiments run: not while a kernel is being edited, the sources' claims have not changed."""
        return self.config.option.mmrec_profile != "quick" and not self.config.option.mmrec_replay

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        from mmrec.conformance.units import ordered

        if not self.tries_claims:  # else pytest would report one that was skipped, with no parameter
            items[:] = [item for item in items if item.get_closest_marker("experiment") is None]
        items[:] = ordered(items, distributed=hasattr(self.config, "workerinput"))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        from mmrec.conformance.units import StayingWithSubjects

        return StayingWithSubjects(config, log) if config.getoption("dist") == "loadgroup" else None

    # ---- subjects -----------------------------------------------------------------------
    def worker(self, given: str) -> Any:
        from mmrec.conformance.worker import Worker

        if given not in self.workers:
            self.workers[given] = Worker(given, self.config.option.mmrec_time_limit)
        return self.workers[given]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Whatever ended the run: what it found so far is in the result file."""
        for worker in self.workers.values():
            worker.close()
        if not hasattr(self.config, "workerinput") and self.records:
            self.document = self._write()

    def _write(self) -> dict[str, Any]:
        from mmrec.conformance import result
        from mmrec.conformance.experiments import in_order
        from mmrec.conformance.report import write_report

        option = self.config.option
        document = result.build(self.records, profile=option.mmrec_profile, seed=option.mmrec_seed,
                                seconds=time.time() - self.started, experiments=in_order(self.findings),
                                replay=option.mmrec_replay or "")  # fmt: skip
        self.folder.mkdir(parents=True, exist_ok=True)
        result.save(document, self.folder / "result.json")
        write_report(document, self.folder / "report.html")
        return document

    @property
    def folder(self) -> Path:
        return Path(self.config.option.mmrec_result)

    # ---- records ------------------------------------------------------------------------
    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        vars(report).pop("node", None)  # else every failure is headed by the process that found it
        if report.when == "teardown":  # the examination's fixture has closed its record by then
            for name, value in report.user_properties:
                if name in (RECORD, FINDING):
                    (self.records if name == RECORD else self.findings).append(json.loads(str(value)))

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the table, and say where the files are."""
        if self.document is None:
            return
        from rich.console import Console

        from mmrec.conformance.summary import print_conclusion, print_table

        console = Console()
        console.print()
        print_table(self.document, console)
        print_conclusion(self.document, console)
        console.print(f"result  {self.folder / 'result.json'}\nreport  {self.folder / 'report.html'}", soft_wrap=True)


@pytest.fixture
def session(request: pytest.FixtureRequest) -> Session:
    found = request.config.pluginmanager.get_plugin("mmrec-session")
    if found is None:
        pytest.skip("no subject given: run `mmrec verify` or pass --mmrec-subject")
    return found


@pytest.fixture
def record_finding(request: pytest.FixtureRequest) -> Callable[[dict[str, Any]], None]:
    """Puts the finding of an experiment into the result file."""
    return lambda finding: request.node.user_properties.append((FINDING, json.dumps(finding)))


@pytest.fixture
def examination(request: pytest.FixtureRequest, session: Session, question: Any) -> Iterator[Any]:
    """What a conformance test works with: an Examination of one subject, op and dtype."""
    from mmrec.conformance.examination import Examination

    subject, op, dtype, part = question
    examined = Examination(session, request.node, subject, op, dtype, part)
    yield examined
    examined.record.seconds = round(time.perf_counter() - examined.began, 3)
    request.node.user_properties.append((RECORD, json.dumps(asdict(examined.record))))
