"""Everything the gate found out about a change, and what of it stands against the change."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from mmrec.conformance.gate.figures import Row
from mmrec.conformance.gate.judged import Verdict
from mmrec.conformance.gate.race import NOISE, Ratio
from mmrec.conformance.gate.revisions import Change
from mmrec.conformance.gate.touched import Touched


@dataclass
class Findings:
    """One run of the gate."""

    change: Change
    everything: bool  # --all: treated as if every file had changed
    broken: list[str] = field(default_factory=list)  # subjects that the change keeps from being loaded, and why
    touched: list[Touched] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    figures: str = ""  # what the kernels were compared with
    ratios: list[Ratio] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what was not looked at, and why
    seconds: float = 0.0

    @property
    def reached(self) -> dict[str, list[str]]:
        """What each changed file reaches, in words; nothing for most files."""
        return {
            file: [f"{one.name}: {', '.join(sorted(one.because[file]))}" for one in self.touched if file in one.because]
            for file in self.change.files
        }

    def failures(self) -> Iterator[tuple[str, str]]:
        """What stands against the change: which part of the gate says so, and why."""
        for reason in self.broken:
            yield "loading", reason
        for verdict in self.verdicts:
            for failure in verdict.failures:
                yield "conformance", f"{verdict.subject}, {verdict.op}: {failure}"
        for row in self.rows:
            for failure in row.failures:
                yield "kernels", f"{row.file}, {row.variant}, {row.architecture}: {failure}"
        for ratio in self.ratios:
            if ratio.slower:
                yield "speed", (f"{ratio.subject}, {ratio.case}: {ratio.ratio:.2f} x the base's time, at least "
                                f"{ratio.low:.2f} x; the noise ends at {NOISE[ratio.kind]:.2f} x")  # fmt: skip
