"""Does this machine compute as the error model assumes? `mmrec calibrate` measures it, function by function.

Each framework's elementary functions are compared with exact values: float64 functions for float32, mpmath for
float64. For every function and kind of numbers a measurement holds the largest error in units of u and where it is,
the largest share of what the model allows at any argument, and whether the assumption holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import mpmath
import numpy as np
import scipy.special
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from mmrec.conformance.elementary import FUNCTIONS, Calculator, calculators
from mmrec.conformance.sweeps import NORMAL, SUBNORMAL_OPERANDS, SUBNORMAL_RESULTS, Operands, Sweep, sweeps
from mmrec.numerics.error_model import ErrorModel
from mmrec.numerics.formats import FLOAT32, FLOAT64, Format

STRIDE = 1024  # two million points in each interval
FORMATS = (FLOAT32, FLOAT64)
EXACT_BITS = 160

IN_FLOAT64 = {
    "exp": np.exp, "log": np.log, "sigmoid": scipy.special.expit, "tanh": np.tanh, "erf": scipy.special.erf,
    "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x), "divide": np.divide, "multiply": np.multiply, "add": np.add,
}  # fmt: skip
IN_MPMATH = {
    "exp": mpmath.exp, "log": mpmath.log, "sigmoid": mpmath.sigmoid, "tanh": mpmath.tanh, "erf": mpmath.erf,
    "sqrt": mpmath.sqrt, "rsqrt": lambda x: 1 / mpmath.sqrt(x), "divide": lambda x, y: x / y,
    "multiply": lambda x, y: x * y, "add": lambda x, y: x + y,
}  # fmt: skip


@dataclass(frozen=True)
class Measurement:
    """One function of one framework, in one format, on one kind of numbers."""

    framework: str
    function: str
    format: str
    kind: str
    points: int
    error: float  # the largest, in units of u relative to the exact value
    at: tuple[float, ...]  # the operands where it is
    allowed: float  # units of u that the model allows there; an underflow's absolute error is apart
    used: float  # the largest share of what is allowed, anywhere
    used_at: tuple[float, ...]
    rounded: bool  # every result is the exact one rounded to nearest
    kept: bool  # subnormal numbers are not replaced by 0
    exp_slope: float = 0.0  # exp only: the least slope that, with the model's constant, covers every error

    @property
    def holds(self) -> bool:
        return self.used <= 1


def calibrate(stride: int = STRIDE, frameworks: Sequence[str] | None = None) -> list[Measurement]:
    """Measure these frameworks, or all that can run here, at one of ``stride`` float32 numbers. Shows its progress."""
    if stride < 1:
        raise ValueError(f"stride: {stride} is not a number from 1 on")
    return measure(calculators(frameworks), stride)


def measure(machines: Sequence[Calculator], stride: int, functions: Sequence[str] = FUNCTIONS) -> list[Measurement]:
    """Every one of these functions of every calculator."""
    todo = [sweep for form in FORMATS for function in functions for sweep in sweeps(form, function, stride)]
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    measurements: list[Measurement] = []
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=sum(map(len, todo)))
        for sweep in todo:
            progress.update(task, description=f"{sweep.function} {sweep.form.name}")
            found: dict[str, Measurement] = {}
            for operands in sweep.chunks():
                exact = exact_values(sweep.function, sweep.form, operands)
                for machine in machines:
                    part = compare(machine, sweep, operands, exact)
                    found[machine.name] = together(found[machine.name], part) if machine.name in found else part
                progress.advance(task)
            measurements += found.values()
    return measurements


def exact_values(function: str, form: Format, operands: Operands) -> tuple[np.ndarray, np.ndarray]:
    """The exact result as the sum of two float64 arrays, the second of which is what the first rounds away."""
    if form is FLOAT32:
        with np.errstate(all="ignore"):
            high = IN_FLOAT64[function](*(x.astype(np.float64) for x in operands))
        return high, np.zeros(())
    high, low = np.empty(len(operands[0])), np.empty(len(operands[0]))
    with mpmath.workprec(EXACT_BITS):
        for i, numbers in enumerate(zip(*operands, strict=True)):
            exact = IN_MPMATH[function](*(mpmath.mpf(float(x)) for x in numbers))
            high[i] = float(exact)
            low[i] = float(exact - high[i])
    return high, low


def compare(machine: Calculator, sweep: Sweep, operands: Operands, exact: tuple[np.ndarray, np.ndarray]) -> Measurement:
    """One chunk of a sweep, computed by the machine, against the exact values."""
    model, (high, low) = ErrorModel(arithmetic=sweep.form), exact
    with np.errstate(all="ignore"):
        computed = machine.functions[sweep.function](*operands)
        error = np.abs((computed.astype(np.float64) - high) - low)
        error = np.where(np.isnan(error), np.inf, error)
        size = np.abs(high)
        units = np.where(error == 0, 0.0, error / size / model.u)
        allowed = model.allowed(sweep.function, operands[0])
        relative = allowed * model.u * size
        may_underflow = np.where(size < 2 * sweep.form.tiny, model.eta, 0.0)
        used = np.where(error == 0, 0.0, error / (relative + may_underflow))
        if model.flush_to_zero:  # a subnormal operand may be read as 0
            used = np.where(computed == read_as_zero(sweep, operands), 0.0, used)
        worst, tightest = int(np.argmax(units)), int(np.argmax(used))
        steepest = np.max((units - model.exp) / np.abs(operands[0])) if sweep.function == "exp" else 0.0
        return Measurement(
            framework=machine.name, function=sweep.function, format=sweep.form.name, kind=sweep.kind,
            points=len(high), error=float(units[worst]), at=tuple(float(x[worst]) for x in operands),
            allowed=float(allowed[worst]), used=float(used[tightest]),
            used_at=tuple(float(x[tightest]) for x in operands),
            rounded=bool(np.all(computed == high.astype(sweep.form.dtype))),
            kept=bool(np.all(error <= relative + 4 * sweep.form.smallest)), exp_slope=max(0.0, float(steepest)),
        )  # fmt: skip


def read_as_zero(sweep: Sweep, operands: Operands) -> np.ndarray:
    """The results when every subnormal operand is taken for 0; NaN, which equals nothing, where there is none."""
    subnormal = [(np.abs(x) < sweep.form.tiny) & (x != 0) for x in operands]
    zeroed = (np.where(tiny, 0.0, x.astype(np.float64)) for tiny, x in zip(subnormal, operands, strict=True))
    return np.where(np.any(subnormal, axis=0), IN_FLOAT64[sweep.function](*zeroed), np.nan)


def together(one: Measurement, other: Measurement) -> Measurement:
    """Two parts of one sweep as one measurement."""
    larger, tighter = max(one, other, key=lambda m: m.error), max(one, other, key=lambda m: m.used)
    return replace(
        larger, points=one.points + other.points, used=tighter.used, used_at=tighter.used_at,
        rounded=one.rounded and other.rounded, kept=one.kept and other.kept,
        exp_slope=max(one.exp_slope, other.exp_slope),
    )  # fmt: skip


# ---- printing -------------------------------------------------------------------------------
def print_calibration(measurements: Sequence[Measurement], console: Console | None = None) -> bool:
    """One table a format, then what does not hold; whether everything holds."""
    console = console or Console()
    for form in FORMATS:
        here = [m for m in measurements if m.format == form.name]
        console.print(table_of(form, here))
        for kind, assumed in ((SUBNORMAL_RESULTS, "may become 0"), (SUBNORMAL_OPERANDS, "may be read as 0")):
            line = subnormal_line(f"{kind} {assumed}", [m for m in here if m.kind == kind])
            console.print(line, soft_wrap=True)
        console.print()
    broken: dict[tuple[str, str, str], list[Measurement]] = {}
    for m in measurements:
        if not m.holds:
            broken.setdefault((m.framework, m.format, m.kind), []).append(m)
    for (framework, form_name, kind), several in broken.items():
        worst = max(several, key=lambda m: m.used)
        functions = ", ".join(m.function for m in several)
        where = ", ".join(f"{x:.9g}" for x in worst.used_at)
        says = (f"{framework}, {form_name}, {kind}: {functions}; {worst.function}({where}) errs by {worst.used:.3g} "
                f"times what is allowed")  # fmt: skip
        console.print(Text.assemble(("does not hold  ", "bold red"), says), soft_wrap=True)
    failed = sum(map(len, broken.values()))
    points = sum(m.points for m in measurements)
    verdict = f"{failed} of {len(measurements)} assumptions do not hold" if failed else "Every assumption holds"
    says = f"{verdict} on this machine ({points:,} results compared)."
    console.print(Text(says, "bold red" if failed else "green"))
    return not failed


def table_of(form: Format, here: Sequence[Measurement]) -> Table:
    """Functions by frameworks: the largest error in u, the share of what is allowed, and where the error is."""
    names = list(dict.fromkeys(m.framework for m in here))
    table = Table(title=f"{form.name}: largest error in u = 2^-{form.precision}, share of what is allowed",
                  title_justify="left", show_edge=False, pad_edge=False)  # fmt: skip
    table.add_column("function, assumed", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for function in dict.fromkeys(m.function for m in here):
        found = {m.framework: m for m in here if (m.function, m.kind) == (function, NORMAL)}
        label = Text.assemble(function, (f"\n  {assumption(form, function)}", "dim"))
        table.add_row(label, *(cell(found[name]) for name in names))
    return table


def assumption(form: Format, function: str) -> str:
    """What the error model allows, in words."""
    model = ErrorModel(arithmetic=form)
    through_exp = f"{model.exp:g} + {model.exp_slope:g} |x|"
    if function == "exp":
        return through_exp
    if function == "sigmoid":
        return f"{model.add + model.divide:g} + (1-s) of exp, >= {model.sigmoid:g}"
    return f"{getattr(model, function):g}"


def cell(m: Measurement) -> Text:
    """Error and share; below them where the error is, and of exp the least slope that covers every error."""
    below = "rounded" if m.rounded else "at " + ", ".join(f"{x:.4g}" for x in m.at)
    slope = f"\nslope {m.exp_slope:.3f}" if m.function == "exp" else ""
    return Text(f"{m.error:.2f} u {100 * m.used:4.0f} %\n{below}{slope}", "" if m.holds else "bold red")


def subnormal_line(assumed: str, here: Sequence[Measurement]) -> Text:
    """What each framework does with subnormal numbers, beside what is assumed."""
    line = Text(f"{assumed}:")
    for name in dict.fromkeys(m.framework for m in here):
        found = [m for m in here if m.framework == name]
        lost = [m.function for m in found if not m.kept]
        said = "kept" if not lost else "0 everywhere" if len(lost) == len(found) else f"0 in {', '.join(lost)}"
        line.append(f"  {name} {said}", "" if all(m.holds for m in found) else "bold red")
    return line
