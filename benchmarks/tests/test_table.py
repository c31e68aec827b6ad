"""Is the table whole, however narrow the terminal is?"""

from rich.console import Console

from mmrec.benchmarks.device import Device
from mmrec.benchmarks.table import print_table
from mmrec.conformance.report.wording import used

GPU = Device("cuda", "GPU", "GPU", 1, 1e12, {"bfloat16": 1e14})


def row(implementation: str, **changes: object) -> dict:
    known = {"implementation": implementation, "group": "linear_recurrence forward B1-T32768-D4096 float32",
             "layout": "BTD", "peer": False, "scaling": False, "seconds": 1.5e-3, "host_seconds": None, "share": 0.9,
             "bound_by": "copy", "beyond_cache": True, "ratio": None, "wrong": False, "budget": None}  # fmt: skip
    return known | changes


def test_no_cell_is_cut_where_the_terminal_is_narrower_than_the_table():
    console = Console(width=40, record=True)
    rows = [row("torch"), row("a library with a long name", peer=True, ratio=0.25, wrong=True, budget=2e4)]

    print_table(rows, GPU, console)

    text = console.export_text()
    assert "…" not in text
    for cell in ("1.5 ms", "90 %", "0.25", "a library with a long name (BTD, peer)", f"wrong: {used(2e4)} its bound"):
        assert cell in text
