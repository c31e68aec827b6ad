"""The gate's one page: in a terminal, and as Markdown for a comment on a pull request."""

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmrec.conformance.gate.sections import Section

MOST_ROWS = 14  # of one table in a terminal; Markdown has them all
PIPE_WIDTH = 120  # columns when the output goes to a file


def print_page(sections: Iterable[Section], console: Console) -> None:
    for section in sections:
        bad = section.title.startswith("FAIL")
        console.print(Text(section.title, "bold red" if bad else "bold"), soft_wrap=True)
        if section.cells:
            console.print(drawn(section))
        hidden = len(section.cells) - MOST_ROWS
        for line in [f"and {hidden} more rows"] * (hidden > 0) + section.lines:
            console.print(Text(f"  {line}", "red" if bad else ""), soft_wrap=bad)
        console.print()


def drawn(section: Section) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="dim")
    for place, column in enumerate(section.columns):
        table.add_column(column, overflow="fold", ratio=None, no_wrap=place > 1)
    for place, cells in enumerate(section.cells[:MOST_ROWS]):
        table.add_row(*(Text(cell) for cell in cells), style="red" if place in section.failed else "")
    return table


def write_markdown(sections: Iterable[Section], path: Path) -> None:
    """The conclusion first: a reader of many comments looks no further when it passes."""
    every = list(sections)
    blocks = ["## Gate", *(block for section in [every[-1], *every[:-1]] for block in markdown_of(section))]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(blocks) + "\n")


def markdown_of(section: Section) -> list[str]:
    blocks = [f"**{escaped(section.title)}**"]
    if section.cells:
        rows = [section.columns, ("---",) * len(section.columns)]
        rows += [tuple(f"**{escaped(cell)}**" if place in section.failed and cell else escaped(cell) for cell in cells)
                 for place, cells in enumerate(section.cells)]  # fmt: skip
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
        long = len(section.cells) > MOST_ROWS
        blocks.append(
            f"<details><summary>{len(section.cells)} rows</summary>\n\n{table}\n\n</details>" if long else table
        )
    if section.lines:
        blocks.append("\n".join(f"{'  ' * line.startswith(' ')}- {escaped(line)}" for line in section.lines))
    return blocks


def escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    for mark in ("\\", "|", "*", "_", "<", ">", "`", "["):
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
