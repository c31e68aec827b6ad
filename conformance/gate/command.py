"""The two commands of the gate: check a change, and store what kernels cost."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from mmrec.conformance.calls import refuse, require_writable


def gate(
    base: Annotated[str, typer.Option(help="the revision the change is measured from")],
    subject: Annotated[
        list[str] | None, typer.Option(help="whose kernels; default: the built-ins that lie here")
    ] = None,
    dtype: Annotated[list[str] | None, typer.Option(help="judge only this dtype (repeatable)")] = None,
    everything: Annotated[bool, typer.Option("--all", help="as if every file had changed")] = False,
    cpu_bench: Annotated[bool, typer.Option(help="time both revisions without a GPU too")] = False,
    bench: Annotated[bool, typer.Option(help="time both revisions where there is a GPU")] = True,
    bench_seconds: Annotated[
        float | None, typer.Option(help="for all timing together; default: 240 on a GPU, 900 on a CPU", min=0)
    ] = None,
    figures: Annotated[Path | None, typer.Option(help="stored figures; default: ci/kernel_figures.json")] = None,
    markdown: Annotated[Path | None, typer.Option(help="write the page there too")] = None,
) -> None:
    """Check what a change touches; exit 1 when it breaks a clause, spills, outgrows a limit or is slower."""
    from mmrec.conformance.gate import WrongCall
    from mmrec.conformance.gate.page import PIPE_WIDTH, print_page, write_markdown
    from mmrec.conformance.gate.run import Call, has_gpu, run
    from mmrec.conformance.gate.sections import sections
    from mmrec.numerics.formats import FORMATS

    for value in dtype or []:
        if value not in FORMATS:
            raise refuse(f"--dtype: {value!r} is not one of {', '.join(FORMATS)}")
    if cpu_bench and not bench:
        raise refuse("--cpu-bench and --no-bench: only one of them")
    if figures is not None and not figures.is_file():
        raise refuse(f"--figures: {figures}: no such file; `mmrec figures` writes one")
    if markdown is not None:
        require_writable("--markdown", markdown.parent)
    timed = cpu_bench or (bench and has_gpu())
    call = Call(base, tuple(subject or ()), tuple(dtype or ()), everything, timed, bench_seconds, figures)
    try:
        findings = run(call, progress())
    except WrongCall as error:
        raise refuse(str(error)) from None
    print_page(sections(findings), Console(width=None if sys.stdout.isatty() else PIPE_WIDTH))
    if markdown is not None:
        write_markdown(sections(findings), markdown)
    raise typer.Exit(1 if any(findings.failures()) else 0)


def progress() -> Callable[[str], None]:
    """Says on the terminal, beside the output, what is being done."""
    console = Console(stderr=True, soft_wrap=True)
    return lambda text: console.print(Text(f"gate: {text} ...", "dim"))


def store_figures(
    subject: Annotated[
        list[str] | None, typer.Option(help="whose kernels; default: the built-ins that lie here")
    ] = None,
    figures: Annotated[Path | None, typer.Option(help="where they go; default: ci/kernel_figures.json")] = None,
) -> None:
    """Compile every kernel for sm_80 and sm_90 and store its registers, spills, shared memory and instructions."""
    from mmrec.conformance.gate import WrongCall
    from mmrec.conformance.gate.run import Call, rewrite_figures

    try:
        path, variants = rewrite_figures(Call(subjects=tuple(subject or ()), figures=figures), progress())
    except WrongCall as error:
        raise refuse(str(error)) from None
    Console().print(f"{variants} variants of kernels stored in {path}")
