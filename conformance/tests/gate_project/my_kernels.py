"""A subject as another project would write it: its kernels in a module beside it, nothing of the judge's imported."""

import torch
from scan import linear_recurrence

SUBJECT = {
    "name": "my-kernels",
    "framework": "torch",
    "device": "cuda" if torch.cuda.is_available() else "cpu",
    "ops": {"linear_recurrence": linear_recurrence},
}
