"""One command: judge the implementations on this machine, time what passed, and write the tables.

    python -m mmrec.benchmarks [--profile quick|gate|full] [--out results] [--budget S] [-- arguments of pytest]

writes result.json (verdicts), benchmarks.json (times), report.html (both) and benchmarks.md (the tables, for a README).
With a budget it ends in time: what judging leaves of it is for compiling and timing, the most important cases first.
Exit 0 when everything conforms and no speed is suspicious or, with --check-thresholds after --, too low.
"""

import argparse
import math
import subprocess
import sys
import time
from pathlib import Path

from mmrec.benchmarks.judgement import environment
from mmrec.conformance import plugin, result, timings
from mmrec.conformance.calls import why_not_writable
from mmrec.conformance.report import write_report
from mmrec.conformance.report.speeds import markdown_of

HERE = Path(__file__).resolve().parent
ENDING = 30.0  # seconds for what no budget stops: loading the frameworks, the last case, writing the page


def main() -> int:
    began = time.monotonic()
    given, pytest_arguments = parse(sys.argv[1:])
    if reason := why_not_writable(given.out):
        print(f"mmrec.benchmarks: --out: {reason}", file=sys.stderr)
        return 2
    if given.budget is not None and not ENDING < given.budget < math.inf:
        print(f"mmrec.benchmarks: --budget: {given.budget:g} is no time in which anything can be timed; expected more than "
              f"{ENDING:g} seconds, which loading the frameworks and writing the page take", file=sys.stderr)  # fmt: skip
        return 2
    here = subjects_here()
    subjects = given.subject or here
    if not here:
        print("mmrec.benchmarks: none of the implementations can be loaded here", file=sys.stderr)
        return 2
    if unknown := [name for name in subjects if name not in here]:
        found = f"cannot be timed here; here are {', '.join(here)}"
        print(f"mmrec.benchmarks: --subject: {', '.join(unknown)} {found}", file=sys.stderr)
        return 2
    result_path, timings_path = given.out / "result.json", given.out / "benchmarks.json"
    for path in (result_path, timings_path):  # whatever happens below, no old file passes for a new one
        path.unlink(missing_ok=True)
    judged = run("mmrec.conformance", "verify", *subjects, f"--profile={given.profile}", f"--out={given.out}",
                 f"--jobs={given.jobs}")  # fmt: skip
    if not result_path.is_file():
        print("mmrec.benchmarks: the judge wrote no result, so nothing may be timed", file=sys.stderr)
        return 2
    chosen = [] if given.no_scaling else ["--scaling"]
    chosen += [f"--implementation={name}" for name in given.subject]
    if given.budget is not None:
        left = given.budget - (time.monotonic() - began) - ENDING
        if left < 1:
            print(f"mmrec.benchmarks: --budget: judging left none of the {given.budget:g} s, so nothing was timed; give it more, "
                  f"or judge less (--profile quick, --subject)", file=sys.stderr)  # fmt: skip
            return 1
        chosen.append(f"--budget={left:.0f}")
    timed = run("pytest", *plugin.arguments(), "-q", str(HERE / "test_speed.py"), f"--result={result_path}",
                f"--timings={timings_path}", *chosen, *pytest_arguments)  # fmt: skip
    if not timings_path.is_file():
        print("mmrec.benchmarks: nothing was timed, for the reasons above", file=sys.stderr)
        return 1
    times = timings.read(timings_path)
    write_report(result.read(result_path), given.out / "report.html", times)
    (given.out / "benchmarks.md").write_text(markdown_of(times))
    print(f"report  {given.out / 'report.html'}\ntable   {given.out / 'benchmarks.md'}")
    return 0 if judged == timed == 0 else 1


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Our own options, and what follows -- for pytest."""
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser(prog="python -m mmrec.benchmarks", epilog="Arguments after -- reach pytest.",
                                     description="Judge the implementations here, then time what passed.")  # fmt: skip
    parser.add_argument("--profile", choices=plugin.PROFILES, default="gate", help="how hard to judge (default: gate)")
    parser.add_argument(
        "--out", type=Path, default=Path("results"), help="folder of what is written (default: results)"
    )
    parser.add_argument("--jobs", default="auto", help="processes that judge side by side (default: auto)")
    parser.add_argument("--no-scaling", action="store_true", help="leave out the points of the scaling figure")
    parser.add_argument("--subject", action="append", default=[], metavar="NAME",
                        help="judge and time only this one, beside its peers (repeatable)")  # fmt: skip
    parser.add_argument("--budget", type=float, metavar="S",
                        help="seconds for all of it (default: 420 on a GPU, 900 on a CPU, judging apart)")  # fmt: skip
    return parser.parse_args(arguments[:cut]), arguments[cut + 1 :]


def subjects_here() -> list[str]:
    """Who can be timed on this machine, asked in a process of its own: this one holds no device's memory."""
    asked = [sys.executable, "-m", "mmrec.benchmarks.implementations"]
    return subprocess.run(asked, env=environment(), stdout=subprocess.PIPE, text=True, check=True).stdout.split()


def run(module: str, *arguments: str) -> int:
    """A module in a process of its own, on the terminal: the judge's workers and the clocks share nothing."""
    return subprocess.run([sys.executable, "-m", module, *arguments], env=environment(), check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
