"""How to speak to each framework: make its arrays, call an op, differentiate it, read the result.

One module a framework, all with the same functions (see ``numpy_arrays`` for the plainest):

    devices()                                   names of the devices that are here, as SUBJECT["device"] takes them
    prepare()                                   before the subject is imported: poisoned buffers, 64-bit mode
    make(values, dtype, layout, batched, device)   float64 values -> the framework's array in that memory layout
    refill(array, values)                       new values in the same buffer; the array to use from now on
    call(function, arrays, options)             the op's result
    gradients(function, arrays, options, g)     (result, {argument: gradient of sum(g * result)})
    read(array)                                 (float64 values, dtype name); TypeError when it is not an array
    shares_memory(one, other)
"""

import importlib
from types import ModuleType

FRAMEWORKS = ("numpy", "torch", "jax")


def framework(name: str) -> ModuleType:
    """The module that speaks to that framework; ValueError names the accepted ones."""
    if name not in FRAMEWORKS:
        raise ValueError(f'SUBJECT["framework"]: {name!r} is not one of {", ".join(FRAMEWORKS)}')
    return importlib.import_module(f"{__name__}.{name}_arrays")
