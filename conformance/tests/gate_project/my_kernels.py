"""A subject as another project would write it: its kernels in a module beside it, nothing of the judge's imported."""

from scan import linear_recurrence

SUBJECT = {"name": "my-kernels", "framework": "torch", "ops": {"linear_recurrence": linear_recurrence}}
