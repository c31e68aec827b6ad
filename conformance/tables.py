"""Tables in the terminal of which nothing is lost: where a column is too narrow, rich would cut words and leave columns out.

A terminal folds them to its width. What goes into a file or a pipe has none, and tables take what they need there.
"""

from collections.abc import Callable, Iterator

from rich.console import Console
from rich.table import Table


def print_whole(table: Table, console: Console) -> None:
    """Print it at the console's width or, where its longest words do not fit, at its own."""
    least, natural = widths_of(table, console)
    table.width = min(natural, max(console.width, least)) if console.is_terminal else natural
    console.print(table, crop=False)


def blocks_that_fit(subjects: list[str], table_of: Callable[[list[str]], Table], console: Console) -> Iterator[Table]:
    """One table of all subjects or, where a terminal is too narrow, several, each of as many as fit and one at least."""
    while subjects:
        fit = len(subjects)
        while console.is_terminal and fit > 1 and widths_of(table_of(subjects[:fit]), console)[0] > console.width:
            fit -= 1
        yield table_of(subjects[:fit])
        subjects = subjects[fit:]


def widths_of(table: Table, console: Console) -> tuple[int, int]:
    """Columns it takes with every line folded between words, and with none folded."""
    measured = console.measure(table, options=console.options.update(width=100_000))
    return measured.minimum, measured.maximum
