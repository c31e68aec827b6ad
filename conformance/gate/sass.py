"""What a compiled kernel costs, read from its machine code with NVIDIA's own tools, which Triton's wheel carries.

Instructions in loops cannot be compared as they stand: the assembler (ptxas) repeats a short loop's body four times
over and a longer one's not at all, so that a slowed kernel may even have fewer of them (seen: 58 became 25). PTX, from
which it assembles, holds each body once. The memory accesses in the loops of both tell how many copies were made, and
so what one turn takes.
"""

import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from mmrec.conformance.cache import kept

INSTRUCTION = re.compile(r"^\s+/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)([^;]*);", re.MULTILINE)
TARGET = re.compile(r"\b0x([0-9a-f]+)\s*$")
ACCESSES = ("LDG", "STG", "RED", "ATOM", "UBLKCP", "UTMA")
SPILLS = ("STL", "LDL")  # stores to and loads from a thread's local memory

PTX_LINE = re.compile(r"^\s*(?:(\$\w+):|(?:@!?%p\d+\s+)?([a-z][\w.]*)\s*([^;]*);)", re.MULTILINE)
PTX_ACCESS = re.compile(r"(ld|st|red|atom)\.[\w.]*global|cp\.async\.(ca|cg|bulk\.(?!\w*group|commit|wait))")


@dataclass(frozen=True)
class Code:
    """An instruction list: name and place of each, and the ranges of places that a backward branch repeats."""

    instructions: list[tuple[int, str]]
    loops: list[tuple[int, int]]

    @property
    def in_loops(self) -> list[str]:
        return [name for place, name in self.instructions if any(first <= place <= last for first, last in self.loops)]

    def accesses(self, is_access: Callable[[str], object]) -> int:
        """Instructions in loops that move data between a thread or program and global memory."""
        return sum(bool(is_access(name)) for name in self.in_loops)


def machine_code(listing: str) -> list[Code]:
    """Each function of what `cuobjdump -sass` prints, without the padding."""
    functions = []
    for function in listing.split("Function :")[1:]:
        lines = [(int(place, 16), name, rest) for place, name, rest in INSTRUCTION.findall(function) if name != "NOP"]
        branches = ((place, TARGET.search(rest)) for place, name, rest in lines if name.startswith("BRA"))
        loops = [(int(to[1], 16), place) for place, to in branches if to and int(to[1], 16) < place]
        functions.append(Code([(place, name) for place, name, _ in lines], loops))
    return functions


def ptx_code(text: str) -> Code:
    """The instructions of a PTX module with one kernel; a label may only be jumped back to by a loop."""
    labels: dict[str, int] = {}
    instructions: list[tuple[int, str]] = []
    loops = []
    for label, name, rest in PTX_LINE.findall(text[text.find("{") :]):
        if label:
            labels[label] = len(instructions)
        elif name:
            if name.startswith("bra") and rest.strip() in labels:
                loops.append((labels[rest.strip()], len(instructions)))
            instructions.append((len(instructions), name))
    return Code(instructions, loops)


def counts(functions: Iterable[Code], ptx: Code) -> dict[str, float]:
    """Instructions, those of one turn of the loops (0 where there are none), and those that spill."""
    functions = list(functions)
    repeated = sum(len(code.in_loops) for code in functions)
    found = sum(code.accesses(lambda name: name.startswith(ACCESSES)) for code in functions)
    written = ptx.accesses(PTX_ACCESS.match)
    copies = found / written if found and written else 1.0
    return {
        "spills": sum(name.startswith(SPILLS) for code in functions for _, name in code.instructions),
        "instructions": sum(len(code.instructions) for code in functions),
        "per_turn": round(repeated / copies, 1),
    }


def weigh(cubin: bytes, ptx: str, cuobjdump: str) -> dict[str, float]:
    """Registers and bytes of stack a thread, and the counts of its instructions; kept, since a listing takes long."""
    parts = cubin, ptx.encode(), Path(cuobjdump).read_bytes(), Path(__file__).read_bytes()
    return kept("weights", parts, lambda: weigh_anew(cubin, ptx, cuobjdump))


def weigh_anew(cubin: bytes, ptx: str, cuobjdump: str) -> dict[str, float]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        listing = subprocess.run(
            [cuobjdump, "-res-usage", "-sass", file.name], check=True, capture_output=True, text=True
        )
    resources = {name: int(number) for name, number in re.findall(r"\b(REG|STACK):(\d+)", listing.stdout)}
    functions = machine_code(listing.stdout)
    return {"registers": resources["REG"], "stack": resources["STACK"], **counts(functions, ptx_code(ptx))}
