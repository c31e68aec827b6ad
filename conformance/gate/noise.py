"""How far apart are the times of the same code in two processes? The edges in race.NOISE stand on what this prints.

    python -m mmrec.conformance.gate.noise [--subject NAME ...] [--seconds S] [--markdown FILE]

races the working tree against itself, as the gate races two revisions, and does nothing else: nothing is judged.
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from mmrec.conformance.gate import WrongCall
from mmrec.conformance.gate.command import progress
from mmrec.conformance.gate.findings import Findings
from mmrec.conformance.gate.page import PIPE_WIDTH, print_page, write_markdown
from mmrec.conformance.gate.revisions import Change, repository_of, tree_at
from mmrec.conformance.gate.run import Call, revision, time_subjects, touched_subjects
from mmrec.conformance.gate.sections import Section, speed


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m mmrec.conformance.gate.noise", description="Race the tree against itself."
    )
    parser.add_argument(
        "--subject", action="append", default=[], help="whose kernels; default: the built-ins that lie here"
    )
    parser.add_argument("--seconds", type=float, help="for all of it; default: 240 on a GPU, 900 on a CPU")
    parser.add_argument("--markdown", type=Path, help="write the whole table there")
    given = parser.parse_args(arguments)
    try:
        findings = noise(Call(subjects=tuple(given.subject), bench_seconds=given.seconds))
    except WrongCall as error:
        print(f"noise: {error}", file=sys.stderr)
        return 2
    page = [speed(findings)] if findings.ratios else []
    page += [Section("not timed", lines=findings.notes)] if findings.notes else []
    print_page(page, Console(width=None if sys.stdout.isatty() else PIPE_WIDTH))
    if given.markdown:
        write_markdown(page, given.markdown)
    return 0


def noise(call: Call) -> Findings:
    """The ratios of every case, both revisions being the working tree."""
    root = repository_of(call.place)
    findings = Findings(Change("", "", ()), everything=True)
    with revision(tree_at(root)) as tree:
        findings.touched = list(touched_subjects(call, None, tree, tree, findings))
        time_subjects(call, tree, tree, findings, progress())
    return findings


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
