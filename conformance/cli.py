"""The command line: judge kernels, read the spec, draw and compare results."""

import math
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from mmrec.conformance.arguments import split
from mmrec.conformance.calls import WRONG_CALL, refuse, require_writable, what_can_be_judged
from mmrec.conformance.gate.command import gate, store_figures
from mmrec.conformance.plugin import PROFILES
from mmrec.conformance.tables import print_whole

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)
spec_app = typer.Typer(help="Read the specification.", no_args_is_help=True)
app.add_typer(spec_app, name="spec")

RESULT = Path("results/result.json")
PYTEST_ARGUMENTS: list[str] = []  # of this call, after `--`


def main() -> None:
    """Entry point of the console script `mmrec`; what follows `--` is pytest's."""
    ours, theirs = split(sys.argv[1:])
    PYTEST_ARGUMENTS[:] = theirs
    if theirs and ours[:1] != ["verify"]:
        refuse(f"{theirs[0]}: only `mmrec verify` hands what follows -- to pytest")
        sys.exit(WRONG_CALL)
    app(args=ours)


def tell_version(asked: bool) -> None:
    if asked:
        from mmrec.conformance.result import suite_version

        print(f"mmrec {suite_version()}")
        raise typer.Exit


@app.callback()
def every_command(
    version: Annotated[
        bool, typer.Option("--version", help="which mmrec this is", callback=tell_version, is_eager=True)
    ] = False,
) -> None:
    """Judge sequence-model kernels against an executable specification."""


# ---- judging --------------------------------------------------------------------------------


@app.command()
def verify(
    subject: Annotated[list[str], typer.Argument(help="torch, triton, jax, a .py file or a module; pytest's after --")],
    profile: Annotated[str, typer.Option(help="how hard: quick (under a minute), gate, full")] = "gate",
    op: Annotated[list[str] | None, typer.Option(help="only this op (repeatable)")] = None,
    dtype: Annotated[list[str] | None, typer.Option(help="only this dtype (repeatable)")] = None,
    seed: Annotated[int, typer.Option(help="seed of everything drawn")] = 0,
    replay: Annotated[str, typer.Option(help="only this case, as a failure printed it")] = "",
    time_limit: Annotated[float, typer.Option(help="seconds one call may take")] = 60.0,
    out: Annotated[
        Path | None, typer.Option(help="folder for result.json and report.html: results, or results/replay of one case")
    ] = None,
    jobs: Annotated[str, typer.Option(help="processes that judge side by side: a number or auto")] = "auto",
) -> None:
    """Judge subjects; exit 0 when all conform, 1 when one does not, 2 when the call is wrong."""
    import pytest

    from mmrec.conformance import plugin
    from mmrec.conformance.cases import Case
    from mmrec.conformance.ops import all_ops
    from mmrec.conformance.subjects import SubjectError
    from mmrec.numerics.formats import FORMATS

    for option, values, accepted in (("--profile", [profile], PROFILES), ("--op", op or [], all_ops()),
                                     ("--dtype", dtype or [], FORMATS)):  # fmt: skip
        for value in values:
            if value not in accepted:
                raise refuse(f"{option}: {value!r} is not one of {', '.join(accepted)}")
    if jobs != "auto" and not (jobs.isdecimal() and int(jobs) > 0):
        raise refuse(f"--jobs: {jobs!r} is neither a positive number of processes nor auto")
    if seed < 0:
        raise refuse(f"--seed: {seed} is negative; expected 0 or more")
    if not 0 < time_limit < math.inf:
        raise refuse(f"--time-limit: {time_limit:g} is not a positive number of seconds")
    out = out or RESULT.parent / ("replay" if replay else "")  # one case is no new result of them all
    require_writable("--out", out)
    try:
        wanted = [Case.parse(replay).op] if replay else op
        implemented = what_can_be_judged(subject)
    except (SubjectError, ValueError) as error:
        raise refuse(str(error)) from None
    if wanted and not implemented.intersection(wanted):
        raise refuse(
            f"{' and '.join(subject)}: no {' or '.join(wanted)} to judge, only {', '.join(sorted(implemented))}"
        )
    tests = sorted(path.stem for path in Path(__file__).parent.glob("test_*.py"))
    arguments = [*plugin.arguments(), "--pyargs", *(f"mmrec.conformance.{test}" for test in tests),
                 "-q", "--no-header", "--assert=plain", "--import-mode=importlib", "-p", "no:cacheprovider", "-p", "no:benchmark",
                 "--disable-warnings", "-r", "", f"--mmrec-profile={profile}", f"--mmrec-seed={seed}",
                 f"--mmrec-result={out}", f"--mmrec-time-limit={time_limit:g}"]  # fmt: skip
    arguments += [f"--mmrec-subject={given}" for given in subject]
    arguments += [f"--mmrec-op={name}" for name in op or all_ops() if op or name in implemented]
    arguments += [f"--mmrec-dtype={name}" for name in dtype or []]
    arguments += [f"--mmrec-replay={replay}"] if replay else []
    arguments += ["-n", "0"] if replay or jobs == "1" else ["-n", jobs, "--dist", "loadgroup"]
    code = pytest.main(arguments + PYTEST_ARGUMENTS)
    raise typer.Exit({0: 0, 1: 1}.get(int(code), WRONG_CALL))


@app.command()
def calibrate(
    stride: Annotated[int, typer.Option(help="look at every n-th float32; 1 is all of them")] = 0,
) -> None:
    """Measure this machine's elementary functions against the error model; exit 1 when an assumption does not hold."""
    from mmrec.conformance import calibrate as calibration

    if stride < 0:
        raise refuse(f"--stride: {stride} is not a positive number")
    measurements = calibration.calibrate(stride or calibration.STRIDE)
    raise typer.Exit(0 if calibration.print_calibration(measurements) else 1)


# ---- a change -------------------------------------------------------------------------------

app.command()(gate)
app.command("figures")(store_figures)


# ---- results --------------------------------------------------------------------------------


@app.command()
def report(
    result: Annotated[Path, typer.Argument(help="a result.json")] = RESULT,
    benchmarks: Annotated[
        Path | None, typer.Option(help="times to show beside it; by default the benchmarks.json beside it, if any")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="where the page goes; beside the result by default")] = None,
) -> None:
    """Draw the HTML report of a result file and print its table."""
    from mmrec.conformance import timings
    from mmrec.conformance.report import write_report
    from mmrec.conformance.summary import print_conclusion, print_table

    document = load_result(result)
    beside = result.with_name("benchmarks.json")
    speeds = benchmarks or (beside if beside.is_file() else None)
    path = out or result.with_name("report.html")
    require_writable("--out", path.parent)
    if path.is_dir():
        raise refuse(f"--out: {path} is a folder; expected the name of an HTML file")
    try:
        write_report(document, path, timings.read(speeds) if speeds else None)
    except ValueError as error:
        raise refuse(str(error)) from None
    except OSError as error:
        raise refuse(f"--out: {path} cannot be written: {error.strerror}") from None
    console = Console()
    print_table(document, console)
    print_conclusion(document, console)
    console.print(f"report  {path}", soft_wrap=True)


@app.command()
def diff(
    old: Annotated[Path, typer.Argument(help="the result.json before")],
    new: Annotated[Path, typer.Argument(help="the result.json after")],
) -> None:
    """Compare two result files; exit 1 when something that conformed does not any more."""
    from mmrec.conformance.report.difference import print_difference

    raise typer.Exit(1 if print_difference(load_result(old), load_result(new)) else 0)


def load_result(path: Path) -> dict[str, Any]:
    from mmrec.conformance.result import read

    try:
        return read(path)
    except ValueError as error:
        raise refuse(str(error)) from None


# ---- the spec -------------------------------------------------------------------------------


@spec_app.command("list")
def spec_list(
    chapter: Annotated[str, typer.Option(help="only this chapter")] = "",
    kind: Annotated[str, typer.Option(help="only normative, reference or note")] = "",
) -> None:
    """Every clause, a line each."""
    from mmrec.spec import clauses

    found = clauses()
    for name, given, accepted in (("--chapter", chapter, {c.chapter for c in found.values()}),
                                  ("--kind", kind, {c.kind for c in found.values()})):  # fmt: skip
        if given and given not in accepted:
            raise refuse(f"{name}: {given!r} is not one of {', '.join(sorted(accepted))}")
    table = Table(show_edge=False, pad_edge=False)
    for name in ("clause", "kind", "chapter", "op", "title"):
        table.add_column(name, overflow="fold")
    for clause in found.values():
        if chapter in ("", clause.chapter) and kind in ("", clause.kind):
            table.add_row(clause.id, clause.kind, clause.chapter, ", ".join(clause.ops), clause.title)
    print_whole(table, Console())


@spec_app.command("show")
def spec_show(
    clause: Annotated[str, typer.Argument(help="an id, such as REC-1, or an item of the ledger")],
    result: Annotated[Path, typer.Option(help="a result.json, for where each subject stands")] = RESULT,
) -> None:
    """A clause: its text, the reference that is it, its bound, what shows it, and where each subject stands."""
    from mmrec import spec
    from mmrec.conformance.traceability import trace

    console = Console()
    if clause not in spec.clauses():
        items: dict[str, spec.Item | spec.Contradiction] = {**spec.ledger(), **spec.contradictions()}
        if clause not in items:
            raise refuse(
                f"{clause!r} is neither a clause nor an item of the ledger; `mmrec spec list` shows the clauses"
            )
        console.print(Text(f"{clause}: {items[clause].statement}"))
        console.print(Text(f"status: {spec.coverage()[clause]}", "bold"))
        return
    found = trace(clause)
    console.print(Text(f"{clause} {found.clause.title}   [{found.clause.kind}, {found.clause.chapter}]", "bold"))
    console.print(Markdown(found.clause.text))
    for name, source in found.reference.items():
        console.rule(name, align="left")
        console.print(Syntax(source, "python", background_color="default", word_wrap=True))
    for name, derivation in found.bounds.items():
        console.rule(f"bound of {name}", align="left")
        console.print(Text(derivation.strip()))
    console.rule("shown by", align="left")
    for line in found.checks + found.tests:
        console.print(Text(f"  {line}"))
    if not result.exists():
        console.print(Text(f"no {result}: run `mmrec verify` to see where each subject stands", "dim"))
        return
    console.rule(f"where each subject stands ({result})", align="left")
    from mmrec.conformance.standing import standing

    for stands in standing(found, load_result(result)):
        console.print(stands)


@spec_app.command("coverage")
def spec_coverage(
    show_open: Annotated[bool, typer.Option("--open", help="list every open item with its planned chapter")] = False,
) -> None:
    """How much of the ledger the chapters answer, area by area; nothing is left out."""
    from mmrec import spec

    status = spec.coverage()
    areas: dict[str, list[str]] = {}
    for item in [*spec.ledger(), *spec.contradictions()]:
        areas.setdefault(item.rpartition("-")[0], []).append(status[item])
    table = Table("area", "items", "clauses", "covered", "open", show_edge=False, pad_edge=False)
    for area, states in areas.items():
        counts = [sum(s == "clause" for s in states), sum(s.startswith("covered") for s in states),
                  sum(s.startswith("open") for s in states)]  # fmt: skip
        table.add_row(area, str(len(states)), *map(str, counts))
    console = Console()
    print_whole(table, console)
    answered = sum(not s.startswith("open") for s in status.values())
    console.print(f"{answered} of {len(status)} items answered, {len(status) - answered} open for later chapters")
    if show_open:
        for item, state in status.items():
            if state.startswith("open"):
                console.print(f"  {item}: {state}")
