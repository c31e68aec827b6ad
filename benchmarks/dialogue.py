"""How a program that another one starts answers its questions: a line of JSON for each, and nothing else on that pipe."""

import json
import os
import sys
from collections.abc import Callable
from typing import Any


def answer_lines(begin: Callable[[], tuple[Callable[[Any], Any], Any]]) -> None:
    """Answer each line on stdin by what ``begin`` returns: what answers a question, and the first answer, unasked.

    Whatever is raised is an answer too: {"error": ...}. What others print goes to stderr, so that it is no answer.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(answer: Any) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    try:
        answer, first = begin()
        say(first)
    except Exception as error:
        say({"error": f"{type(error).__name__}: {error}"})
        return
    for line in sys.stdin:
        try:
            say(answer(json.loads(line)))
        except Exception as error:
            say({"error": f"{type(error).__name__}: {error}"})
