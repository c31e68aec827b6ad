"""The judge: diffs any implementation of the ops against the reference, with tolerances that are derived.

Data walks one way: ``ops/`` says what may be asked of an op, ``cases.py`` draws a question, ``worker.py`` puts it
to the subject in a process of its own, ``judge.py`` compares the answer with the reference within the bound,
``plugin.py`` collects the findings into ``result.json``, and ``report/`` draws them.
"""
