"""How are all steps of h_t = f_t h_{t-1} + c_t computed and differentiated, on whatever device?

Clauses     MDI-1, SCAN-2, SCAN-6, GRAD-1
Parallel    on CUDA the kernels of _kernels.py, elsewhere the loop of _walk.py
Memory      for the gradient only the inputs are kept, and on every device the state before every segment of backward's
Precision   that of `initial`; results are rounded once, to the dtype of the inputs
"""

from collections.abc import Callable, Sequence
from functools import cache, partial

import jax
import jax.numpy as jnp

from . import _walk
from ._precision import widen
from ._step import Coefficients, rows_backward

Arrays = tuple[jax.Array, ...]


@cache
def _cuda_exists() -> bool:
    """Kernels are traced only then: they are long, and where Triton is missing they cannot even be imported."""
    try:
        return bool(jax.devices("cuda"))
    except RuntimeError:
        return False


def _more_rows(function: Callable[..., Arrays]) -> Callable[..., Arrays]:
    """The function of arrays [B, ...], whose vmap is one call with more rows."""
    call = jax.custom_batching.custom_vmap(function)

    @call.def_vmap
    def mapped(size: int, batched: list[bool], *arrays: jax.Array) -> tuple[Arrays, tuple[bool, ...]]:
        wide = [
            x if is_batched else jnp.broadcast_to(x, (size, *x.shape))
            for x, is_batched in zip(arrays, batched, strict=True)
        ]
        rows = wide[0].shape[1]
        if size:
            results = call(*(x.reshape(size * rows, *x.shape[2:]) for x in wide))
        else:  # nothing to compute, and no kernel starts without rows
            one = (jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for x in wide)
            results = tuple(jnp.empty((0, *x.shape[1:]), x.dtype) for x in jax.eval_shape(function, *one))
        split = tuple(x.reshape(size, rows, *x.shape[1:]) for x in results)
        return split, tuple(True for _ in split)

    return call


@cache
def _forward(coefficients: Coefficients, keep: bool) -> Callable[..., Arrays]:
    """(*inputs, initial) -> (result,), or (result, before) if it is to `keep` what the gradient needs: before
    [B, segments, D] are the states before every segment of backward's kernel."""

    def segment_of(inputs: Sequence[jax.Array]) -> int:
        return rows_backward(inputs[0].dtype, inputs[0].shape[1], len(inputs) + 1) if keep else 0

    def walk(*arrays: jax.Array) -> Arrays:
        *inputs, initial = arrays
        states = _walk.forward(coefficients, tuple(inputs), initial)
        result, segment = states.astype(inputs[0].dtype), segment_of(inputs)
        if not keep:
            return (result,)
        return result, jnp.concatenate([initial[:, None], states[:, segment - 1 : -1 : segment]], axis=1)

    def kernel(*arrays: jax.Array) -> Arrays:
        from . import _kernels

        *inputs, initial = arrays
        return _kernels.forward(coefficients, tuple(inputs), initial, segment_of(inputs))

    return _more_rows(_for_the_device(walk, kernel))


@cache
def _backward(coefficients: Coefficients) -> Callable[..., Arrays]:
    """(*inputs, initial, before, gradient of the result) -> (*gradients of the inputs, gradient of the initial state)."""

    def walk(*arrays: jax.Array) -> Arrays:
        *inputs, initial, _, grad = arrays
        grads, grad_initial = _walk.backward(coefficients, tuple(inputs), initial, grad)
        return *grads, grad_initial

    def kernel(*arrays: jax.Array) -> Arrays:
        from . import _kernels

        *inputs, initial, before, grad = arrays
        grads, grad_initial = _kernels.backward(coefficients, tuple(inputs), initial, before, grad)
        return *grads, grad_initial

    return _more_rows(_for_the_device(walk, kernel))


def _for_the_device(walk: Callable[..., Arrays], kernel: Callable[..., Arrays]) -> Callable[..., Arrays]:
    def call(*arrays: jax.Array) -> Arrays:
        return jax.lax.platform_dependent(*arrays, cuda=kernel, default=walk) if _cuda_exists() else walk(*arrays)

    return call


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _scan(coefficients: Coefficients, inputs: Arrays, initial: jax.Array) -> jax.Array:
    return _forward(coefficients, False)(*inputs, initial)[0]


def _scan_forward(
    coefficients: Coefficients, inputs: Arrays, initial: jax.Array
) -> tuple[jax.Array, tuple[Arrays, jax.Array, jax.Array]]:
    result, before = _forward(coefficients, True)(*inputs, initial)
    return result, (inputs, initial, before)


def _scan_adjoint(
    coefficients: Coefficients, residuals: tuple[Arrays, jax.Array, jax.Array], grad: jax.Array
) -> tuple[Arrays, jax.Array]:
    inputs, initial, before = residuals
    *grads, grad_initial = _backward(coefficients)(*inputs, initial, before, grad)
    return tuple(grads), grad_initial


_scan.defvjp(_scan_forward, _scan_adjoint)


@partial(jax.jit, static_argnums=0)
def scan(coefficients: Coefficients, inputs: Arrays, initial: jax.Array) -> jax.Array:
    """Return h_t = f_t h_{t-1} + c_t with h_{-1} = initial and (f_t, c_t) = coefficients(*inputs at t).

    Args     coefficients  a function of a module, not a lambda of a call: what is compiled is found again by it
             inputs        [B, T, D] each; `coefficients` gets them in the arithmetic dtype
             initial       [B, D]
    Returns  [B, T, D], of the one dtype of all arguments
    """
    return _scan(coefficients, inputs, *widen(initial)) if inputs[0].shape[1] else inputs[0]
