"""One bound per op, in the file of its name: a derivation in words, then the same in code.

Every file has two functions, which the judge calls with arrays as float64:

    enclose(question)            -> {"result": Enclosure}
    enclose_gradients(question)  -> {argument: Enclosure}

A :class:`Question` holds the inputs, the options, what the subject answered (used only by defect verdicts,
which judge each step from the subject's own previous state) and what the subject declared about its algorithm.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmrec.numerics.error_model import ErrorModel, model_for
from mmrec.numerics.formats import Format
from mmrec.numerics.running_error import UNKNOWN, RunningError


def previous(first: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """What stands before each step: ``first`` [B,D], then ``steps`` [B,T,D] without its last one."""
    return np.concatenate([first[:, None], steps[:, :-1]], axis=1)[:, : steps.shape[1]]


@dataclass(frozen=True)
class Question:
    """What a bound needs to know about one call of one op."""

    inputs: Mapping[str, np.ndarray]  # float64 values of the stored inputs, in argument order
    options: Mapping[str, Any]
    storage: Format
    result: np.ndarray = field(default_factory=lambda: np.empty(0))  # the subject's, as float64
    cotangent: np.ndarray = field(default_factory=lambda: np.empty(0))  # g, when gradients are judged
    gradients: Mapping[str, np.ndarray] = field(default_factory=dict)  # the subject's, as float64
    declares: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> ErrorModel:
        return model_for(self.storage)

    def exact(self, *names: str) -> tuple[RunningError, ...]:
        """Inputs as running-error numbers without error: they were rounded to storage before anything else."""
        return tuple(RunningError(self.inputs[name], 0.0, self.model) for name in names or self.inputs)

    def stored(self, array: np.ndarray) -> RunningError:
        """A number the subject held in the arithmetic format and showed us rounded to storage; unknown after overflow."""
        finite = np.isfinite(array)
        value = np.where(finite, array, 0.0)
        error = np.zeros(value.shape)
        if self.storage.precision < self.model.arithmetic.precision:
            error = self.storage.unit * (1 + self.storage.unit) * np.abs(value) + self.storage.smallest / 2
        return RunningError(value, np.where(finite, error, UNKNOWN), self.model)
