"""What the process has loaded from which the processes of PyTorch subjects are forked (see start.py)."""

import os
from contextlib import suppress

import mmrec.conformance.worker  # noqa: F401 - what every subject's process runs

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before PyTorch reads it
with suppress(Exception):  # a subject that needs it is told what is wrong when it is loaded
    import torch  # noqa: F401
