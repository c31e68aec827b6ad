"""The elementary functions of each framework, as functions of NumPy arrays: what `calibrate` measures.

A calculator takes NumPy arrays of float32 or float64 and returns NumPy arrays of that dtype; in between the framework
computes, on its own device. Frameworks that are not installed, or have no device here, are left out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

import numpy as np
import scipy.special

FUNCTIONS = ("exp", "log", "sigmoid", "tanh", "erf", "sqrt", "rsqrt", "divide", "multiply", "add")
TWO_OPERANDS = ("divide", "multiply", "add")
FRAMEWORKS = ("numpy", "torch", "torch cuda", "triton", "jax")

Function = Callable[..., np.ndarray]


@dataclass(frozen=True)
class Calculator:
    """A framework's functions by the names of the error model."""

    name: str
    functions: Mapping[str, Function]


def calculators(names: Sequence[str] | None = None) -> list[Calculator]:
    """The frameworks of these names, or all that can run here; ValueError names what is accepted."""
    for name in names or ():
        if name not in FRAMEWORKS:
            raise ValueError(f"frameworks: {name!r} is not one of {', '.join(FRAMEWORKS)}")
        if name not in available():
            raise ValueError(f"frameworks: {name!r} cannot run here, only {', '.join(available())} can")
    return [Calculator(name, MAKERS[name]()) for name in names or available()]


@cache
def available() -> tuple[str, ...]:
    """The frameworks that are installed and have a device here."""
    cuda = find_spec("torch") is not None and _has_cuda()
    usable = {"numpy": True, "torch": find_spec("torch"), "torch cuda": cuda,
              "triton": cuda and find_spec("triton"), "jax": find_spec("jax")}  # fmt: skip
    return tuple(name for name in FRAMEWORKS if usable[name])


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


# ---- one maker a framework ------------------------------------------------------------------
def of_numpy() -> dict[str, Function]:
    """NumPy has no sigmoid and no erf: SciPy's stand for them."""
    return {
        "exp": np.exp, "log": np.log, "sigmoid": scipy.special.expit, "tanh": np.tanh, "erf": scipy.special.erf,
        "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x), "divide": np.divide, "multiply": np.multiply, "add": np.add,
    }  # fmt: skip


def of_torch(device: str) -> dict[str, Function]:
    import torch

    def on_device(function: Callable) -> Function:
        return lambda *operands: function(*(torch.from_numpy(x).to(device) for x in operands)).cpu().numpy()

    return {name: on_device(getattr(torch, name)) for name in FUNCTIONS}


def of_triton() -> dict[str, Function]:
    import torch

    from mmrec.conformance.elementary_triton import evaluate

    def on_device(name: str) -> Function:
        return lambda *operands: evaluate(name, *(torch.from_numpy(x).cuda() for x in operands)).cpu().numpy()

    return {name: on_device(name) for name in FUNCTIONS}


def of_jax() -> dict[str, Function]:
    """JAX's default device; each function compiled by itself, as XLA compiles it inside an op."""
    import jax
    import jax.numpy as jnp

    functions: dict[str, Callable] = {
        "exp": jnp.exp, "log": jnp.log, "sigmoid": jax.nn.sigmoid, "tanh": jnp.tanh, "erf": jax.lax.erf,
        "sqrt": jnp.sqrt, "rsqrt": jax.lax.rsqrt, "divide": jnp.divide, "multiply": jnp.multiply, "add": jnp.add,
    }  # fmt: skip

    def on_device(function: Callable) -> Function:
        compiled = jax.jit(function)

        def call(*operands: np.ndarray) -> np.ndarray:
            with jax.enable_x64(True):  # float64 arrays exist only in this mode
                return np.asarray(compiled(*(jnp.asarray(x) for x in operands)))

        return call

    return {name: on_device(functions[name]) for name in FUNCTIONS}


MAKERS: dict[str, Callable[[], dict[str, Function]]] = {
    "numpy": of_numpy,
    "torch": lambda: of_torch("cpu"),
    "torch cuda": lambda: of_torch("cuda"),
    "triton": of_triton,
    "jax": of_jax,
}
