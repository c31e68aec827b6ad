"""How close an implementation must come: formats, the error model, number systems, and one bound per op.

Nothing here knows a kernel. A tolerance is derived from the error model (:mod:`mmrec.numerics.error_model`),
either in closed form or by running the reference itself on running-error numbers, and each bound stands beside
its derivation in ``mmrec.numerics.bounds.<op>``.
"""
