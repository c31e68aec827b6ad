"""How a wrong call is refused: one line that names what was given and what is accepted, and an exit code of its own."""

import typer
from rich.console import Console
from rich.text import Text

WRONG_CALL = 2  # exit code; 0 conforms, 1 does not


def refuse(message: str) -> typer.Exit:
    """Say in one line what is wrong with the call; exit code 2."""
    Console(stderr=True, soft_wrap=True).print(Text(f"mmrec: {message}"))
    return typer.Exit(WRONG_CALL)
