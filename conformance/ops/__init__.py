"""What may be asked of each op: one file an op, one row a file, found by listing this folder.

A row names the clauses, the arguments with their shapes, the options, the reference and its adjoint, the bound,
the regimes its inputs are drawn from, and the properties that hold beside the value itself.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Sizes:
    """The lengths behind the letters of an argument's shape; E, a second width, follows D."""

    B: int
    T: int
    D: int

    @property
    def E(self) -> int:
        return self.D + 2

    def shape(self, letters: str) -> tuple[int, ...]:
        return tuple(getattr(self, letter) for letter in letters)


@dataclass(frozen=True)
class Property:
    """Something that holds of every correct implementation, beside its values: a relation or an exact case.

    ``holds(ask, op, case)`` puts questions to the subject through ``ask`` and yields findings.
    """

    clause: str
    sentence: str
    holds: Callable[..., Iterable[Any]]
    regimes: tuple[str, ...] = ()  # the regimes to draw from; all of the op's when empty

    @property
    def name(self) -> str:
        return self.holds.__name__


@dataclass(frozen=True)
class Op:
    """One row: everything the judge needs to know about an op."""

    name: str
    clauses: tuple[str, ...]  # what the diff of values shows
    adjoint_clauses: tuple[str, ...]  # what the diff of gradients shows
    arguments: Mapping[str, str]  # name -> shape letters, "BTD"
    reference: Callable[..., Any]
    adjoint: Callable[..., Any]
    bound: ModuleType
    regimes: Mapping[str, Callable[[np.random.Generator, Sizes], Arrays]]
    options: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)  # name -> choices, the default first
    properties: tuple[Property, ...] = ()
    carry: str = ""  # the argument that continues a stream: state or value before step 0; none when empty
    judged_by_defect: bool = False  # each step from the subject's own previous state (nonlinear recurrences)
    domains: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # argument -> [low, high]

    @property
    def default_options(self) -> tuple[tuple[str, Any], ...]:
        """Each option with its first choice."""
        return tuple((name, choices[0]) for name, choices in self.options.items())

    @property
    def per_step(self) -> tuple[str, ...]:
        """The arguments that have a value for every step."""
        return tuple(name for name, letters in self.arguments.items() if letters == "BTD")


@cache
def op_names() -> tuple[str, ...]:
    """Every op, in the order of the files; none of them is imported."""
    return tuple(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


@cache
def all_ops() -> dict[str, Op]:
    """Every op by name, in the order of the files."""
    return {name: importlib.import_module(f"{__name__}.{name}").OP for name in op_names()}
