"""One run of the gate, from a revision to the page."""

import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mmrec.conformance.gate import WrongCall
from mmrec.conformance.gate.children import Children, Located, Revision, Say
from mmrec.conformance.gate.compiling import Kernels, compile_files, triton_version
from mmrec.conformance.gate.figures import compare, gone, lacking, read_figures, with_resident, write_figures
from mmrec.conformance.gate.findings import Findings
from mmrec.conformance.gate.imports import Imports
from mmrec.conformance.gate.judged import judge
from mmrec.conformance.gate.offers import offers
from mmrec.conformance.gate.race import BENCH_SECONDS, Ratio, race
from mmrec.conformance.gate.revisions import Change, Tree, change_since, checkout, repository_of, tree_at
from mmrec.conformance.gate.sections import shortened
from mmrec.conformance.gate.touched import Touched, touched_by

FIGURES = "ci/kernel_figures.json"


@dataclass(frozen=True)
class Call:
    """How the gate was called."""

    base: str = ""
    subjects: tuple[str, ...] = ()  # the built-ins that lie in the repository when empty
    dtypes: tuple[str, ...] = ()  # those of the quick profile when empty
    everything: bool = False
    bench: bool = False
    bench_seconds: float | None = None  # for all timing together; by the kind of device when None
    figures: Path | None = None
    place: Path = Path(".")


@contextmanager
def revision(tree: Tree) -> Iterator[Revision]:
    with tempfile.TemporaryDirectory(prefix="gate-links-") as links:
        yield Revision(Imports(tree), Children(tree, Path(links)))


def run(call: Call, say: Say = lambda text: None) -> Findings:
    """Everything the gate finds out about the change; `say` is told what is being done. WrongCall when it cannot run."""
    began = time.perf_counter()
    root = repository_of(call.place)
    change = change_since(root, call.base)
    findings = Findings(change, call.everything)
    with (checkout(root, change.commit) as old, revision(tree_at(root)) as now, revision(old) as before,
          tempfile.TemporaryDirectory(prefix="gate-") as folder):  # fmt: skip
        changed = None if call.everything else change.files
        say("reading imports")
        findings.touched = list(touched_subjects(call, changed, now, before, findings))
        for place, one in enumerate(findings.touched):
            if one.ops:
                say(f"judging {one.name}: {', '.join(one.ops)}")
                findings.verdicts += judge(one, now.children, before.children, Path(folder, str(place)), call.dtypes)
        weigh_kernels(call, root, now, before, findings, say)
        if call.bench:
            time_subjects(call, now, before, findings, say)
        elif any(one.by_code for one in findings.touched):
            findings.notes.append(
                f"speed: {'not asked for' if has_gpu() else 'no GPU is here; --cpu-bench times on the CPU'}"
            )
    findings.seconds = time.perf_counter() - began
    return findings


def touched_subjects(
    call: Call, changed: Iterable[str] | None, now: Revision, before: Revision, findings: Findings
) -> Iterator[Touched]:
    """What the change reaches of each subject; what it broke, and what cannot be loaded here, is said in the findings."""
    for offer in offers(call.subjects, changed, now, before, call.place):
        given = offer.subject.given
        if offer.broken:
            findings.broken.append(f"{given} can no longer be loaded: {offer.missing}")
        elif offer.missing and call.subjects:
            raise WrongCall(f"--subject: {offer.missing}")
        elif offer.missing:
            findings.notes.append(f"{given}: {offer.missing}")
        if offer.dropped:
            findings.notes.append(f"{given}: {', '.join(offer.dropped)}: in the base, and not here any more")
        if not offer.missing:
            touched = touched_by(changed, offer, now.imports, before.imports)
            if touched.ops or touched.kernels:
                yield touched


def compiled(files_of: Iterable[tuple[Located, Iterable[str]]], there: Revision, say: Say) -> Kernels:
    """The kernels of each subject's files in one revision. Subjects share files: each is compiled once."""
    found: Kernels = {}
    for subject, files in files_of:
        new = [file for file in files if file not in found]
        found |= compile_files(there.children, subject.within(there.tree), new, say)
    return with_resident(found)


def weigh_kernels(call: Call, root: Path, now: Revision, before: Revision, findings: Findings, say: Say) -> None:
    touched, changed = findings.touched, findings.change.files
    files = list(dict.fromkeys(file for one in touched for file in one.kernels))
    path, triton = call.figures or root / FIGURES, triton_version()
    if not triton:
        return
    if files:
        say(f"compiling the kernels of {', '.join(files)}")
    stored, without = read_figures(path, triton)
    findings.figures = path.name
    kernels = compiled([(one.subject, one.kernels) for one in touched], now, say)
    base: Kernels = {}
    if unknown := lacking(kernels, stored, changed):
        say("compiling those of the base revision")
        moved = changed if not set(unknown) <= set(before.tree.files) else ()  # from wherever they lay
        wanted = {*unknown, *moved}
        findings.figures = f"the base revision, since {without}" if without else f"{path.name} and the base revision"
        try:
            base = compiled([(one.subject, wanted & {*one.kernels_before}) for one in touched], before, say)
        except WrongCall as error:  # a subject that was not there yet, or did not load: its kernels are new
            findings.notes.append(f"the kernels of the base revision: {error}")
    silent = {file for one in touched for file in one.kernels_before if file not in files and file in now.tree.files}
    if lost := sorted(silent) or gone(kernels, stored | base, changed):
        findings.notes.append(f"kernels that are not compiled any more: {shortened(lost)}")
    findings.rows = compare(kernels, stored, base, changed)


def time_subjects(call: Call, now: Revision, before: Revision, findings: Findings, say: Say) -> None:
    """Both revisions of each in turn; what one leaves of its share of the time is for those after it."""
    given = BENCH_SECONDS["cuda" if has_gpu() else "cpu"] if call.bench_seconds is None else call.bench_seconds
    end, touched = time.monotonic() + given, [one for one in findings.touched if one.by_code]
    for place, one in enumerate(touched):
        seconds = max(0.0, end - time.monotonic()) / (len(touched) - place)
        where = one.subject.within(now.tree), one.subject.within(before.tree)
        for found in race(now.children, before.children, where, one.name, one.by_code, seconds, say):
            if isinstance(found, Ratio):
                findings.ratios.append(found)
            else:
                findings.notes.append(found)


def has_gpu() -> bool:
    """Whether PyTorch computes on a GPU here: it is what the benchmarks ask too."""
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


def rewrite_figures(call: Call, say: Say = lambda text: None) -> tuple[Path, int]:
    """Compile every kernel of the subjects and store the figures: where they went, and of how many variants."""
    root = repository_of(call.place)
    kernels: Kernels = {}
    with revision(tree_at(root)) as now:
        for touched in touched_subjects(call, None, now, now, Findings(Change("", "", ()), everything=True)):
            new = [file for file in touched.kernels if file not in kernels]
            if new:
                say(f"compiling the kernels of {', '.join(new)}")
            elif not touched.kernels:
                say(f"{touched.name} has no Triton kernels: nothing to compile")
            kernels |= compile_files(now.children, touched.subject.within(now.tree), new, say)
    broken = [f"{file}, {variant}" for file, variants in kernels.items() for variant, found in variants.items()
              if any("error" in weights for weights in found.values())]  # fmt: skip
    if broken or not kernels:
        problem = f"{broken[0]} does not compile" if broken else "no module of the subjects offers compile_specs()"
        raise WrongCall(f"nothing is stored: {problem}")
    path = call.figures or root / FIGURES
    write_figures(path, triton_version(), kernels)
    return path, sum(map(len, kernels.values()))
