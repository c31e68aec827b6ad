"""A case: the few parameters from which one question to a subject is built, drawn by Hypothesis.

Big arrays are never drawn. A case is op, dtype, regime, sizes, seed, layout and options; its text form
(``linear_recurrence/float32/long_memory/B2-T65-D3/seed17/strided``) replays it exactly, on any machine.
"""

import math
import re
import zlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from mmrec.conformance.ops import Arrays, Op, Sizes, all_ops
from mmrec.numerics.formats import FORMATS, Format

LAYOUTS = ("contiguous", "transposed", "strided", "expanded")

# Around every usual block edge (C - 1, C, C + 1, 2 C + 1), small first so that Hypothesis shrinks towards them.
# One pool of shapes for all examples: frameworks that compile, compile once a shape.
SHAPES = tuple(
    Sizes(*lengths)
    for lengths in (
        (1, 1, 1), (2, 5, 3), (1, 2, 1), (2, 3, 2), (1, 15, 2), (2, 16, 3), (3, 17, 2), (1, 31, 4), (2, 32, 1),
        (1, 33, 5), (2, 63, 2), (1, 64, 3), (2, 65, 2), (1, 127, 3), (2, 128, 2), (2, 129, 3),
        (1, 3, 33), (2, 4, 65), (1, 3, 130), (1, 257, 2),
    )
)  # fmt: skip
MOST_ELEMENTS = 2**26  # of an argument [B,T,D]: what the judge can hold in float64, several times over
PLAIN_SHAPE = Sizes(2, 5, 3)  # of checks that need one case and no more
QUICK_SHAPES = (Sizes(1, 1, 1), PLAIN_SHAPE, Sizes(2, 65, 2))
EDGE_SHAPES = (Sizes(1, 1, 1), PLAIN_SHAPE, Sizes(3, 17, 2), Sizes(2, 65, 2))
FEWEST_STEPS = (Sizes(1, 1, 1), PLAIN_SHAPE, Sizes(1, 17, 2))  # for an interpreter: it takes its time for each step


@dataclass(frozen=True)
class Case:
    """One question, by its parameters."""

    op: str
    dtype: str
    regime: str
    sizes: Sizes
    seed: int
    layout: str = "contiguous"
    options: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        sizes = f"B{self.sizes.B}-T{self.sizes.T}-D{self.sizes.D}"
        parts = [self.op, self.dtype, self.regime, sizes, f"seed{self.seed}", self.layout]
        return "/".join(parts + [f"{name}={value}" for name, value in self.options])

    @staticmethod
    def parse(text: str) -> "Case":
        """The case that ``str`` wrote; ValueError says which part is not understood and what is accepted."""
        op_name, *rest = text.split("/")
        if op_name not in all_ops():
            raise ValueError(f"case {text!r}: unknown op {op_name!r}, expected one of {', '.join(all_ops())}")
        op = all_ops()[op_name]
        if len(rest) < 5:
            raise ValueError(f"case {text!r}: expected op/dtype/regime/B1-T2-D3/seed0/layout[/option=value ...]")
        dtype, regime, sizes_text, seed_text, layout, *options = rest
        _expect(text, "dtype", dtype, FORMATS)
        _expect(text, "regime", regime, op.regimes)
        _expect(text, "layout", layout, LAYOUTS)
        sizes = re.fullmatch(r"B(\d+)-T(\d+)-D(\d+)", sizes_text)
        seed = re.fullmatch(r"seed(\d+)", seed_text)
        if sizes is None or seed is None or "0" in (sizes[1], sizes[3]):
            raise ValueError(f"case {text!r}: {sizes_text}/{seed_text} is not of the form B1-T2-D3/seed0")
        if math.prod(map(int, sizes.groups())) > MOST_ELEMENTS:
            raise ValueError(f"case {text!r}: {sizes_text} has more than {MOST_ELEMENTS:,} elements")
        chosen = []
        for option in options:
            name, _, value = option.partition("=")
            _expect(text, "option", name, op.options)
            choices = {str(choice): choice for choice in op.options[name]}
            _expect(text, name, value, choices)
            chosen.append((name, choices[value]))
        defaults = dict(op.default_options) | dict(chosen)
        return Case(
            op_name, dtype, regime, Sizes(*map(int, sizes.groups())), int(seed[1]), layout, tuple(defaults.items())
        )

    @property
    def storage(self) -> Format:
        return FORMATS[self.dtype]

    @property
    def row(self) -> Op:
        return all_ops()[self.op]

    def generator(self, purpose: str = "inputs") -> np.random.Generator:
        """Random numbers that depend on the case's seed and regime, not on its layout or dtype."""
        return np.random.default_rng([self.seed, zlib.crc32(f"{self.op}/{self.regime}/{purpose}".encode())])

    def inputs(self) -> Arrays:
        """The arguments as float64 values, rounded to the storage format (CONV-4), rows equal where expanded."""
        arrays = self.row.regimes[self.regime](self.generator(), self.sizes)
        arrays = {name: self.storage.round(arrays[name]) for name in self.row.arguments}
        if self.layout == "expanded":
            batched = [name for name, letters in self.row.arguments.items() if letters.startswith("B")]
            arrays.update({name: np.broadcast_to(arrays[name][:1], arrays[name].shape) for name in batched})
        return arrays

    def cotangent(self) -> np.ndarray:
        """What the loss wants of the result: [B,T,D], a few zeros among normal numbers."""
        rng = self.generator("cotangent")
        g = rng.standard_normal(self.sizes.shape("BTD")) * (rng.random(self.sizes.shape("BTD")) > 0.1)
        return self.storage.round(g)

    def with_sizes(self, **lengths: int) -> "Case":
        return replace(self, sizes=replace(self.sizes, **lengths))


def _expect(text: str, what: str, given: str, accepted: Collection[str]) -> None:
    if given not in accepted:
        choices = f"one of {', '.join(accepted)}" if accepted else "none"
        raise ValueError(f"case {text!r}: unknown {what} {given!r}, expected {choices}")


@st.composite
def cases(draw: st.DrawFn, op: Op, dtype: str, regime: str, shapes: tuple[Sizes, ...] = SHAPES) -> Case:
    """Cases of one op, dtype and regime; they shrink to small shapes, seed 0, plain layout, default options."""
    options = tuple((name, draw(st.sampled_from(choices), label=name)) for name, choices in op.options.items())
    return Case(
        op=op.name,
        dtype=dtype,
        regime=regime,
        sizes=draw(st.sampled_from(shapes), label="sizes"),
        seed=draw(st.integers(0, 2**16), label="seed"),
        layout=draw(st.sampled_from(LAYOUTS), label="layout"),
        options=options,
    )
