"""The gate: what does a change touch, does that still conform, did its kernels get heavier, did it get slower?

Data walks one way. ``revisions.py`` says which files changed since a revision and puts that revision beside the
working tree; ``imports.py`` reads who imports whom in both; ``touched.py`` concludes which ops of which subjects and
which kernels the change reaches. Those alone are judged (``judged.py``), compiled without a GPU and weighed
(``compiling.py``, ``sass.py``, ``figures.py``) and timed against the revision (``race.py``). ``page.py`` draws one page.

It works on any repository whose subjects the judge can load: `mmrec gate --subject my_kernels.py --base main`.
"""


class WrongCall(Exception):
    """The gate cannot run as it was called; the message names what was given and what is accepted."""
