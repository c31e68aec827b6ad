"""The specification in executable form: one readable function per formula, slow on purpose.

Every function here is written once, with operators, loops and the dozen elementary functions of
:mod:`mmrec.reference.numbers`, and therefore runs in any number system: NumPy float64, mpmath,
Arb balls, running-error numbers, dual numbers. A line that *is* a clause of the spec ends with its id.
Nothing here knows which implementations exist or how close they must come.

Each op lives in the file of its name: ``mmrec.reference.linear_recurrence.linear_recurrence`` and,
beside it, ``linear_recurrence_adjoint``, the gradients of ``sum(g * result)`` in argument order.
"""
