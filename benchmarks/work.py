"""One case as something to call: the inputs on the device, several sets of them, used in turn.

The sets together are larger than the device's cache, so that no call finds its inputs there from the call before.
Every input is random and none is zero: zeros are cheap to multiply and to move.
"""

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from math import prod
from typing import Any

from mmrec.benchmarks.cases import Case, is_weight
from mmrec.benchmarks.clocks import pending
from mmrec.benchmarks.device import Device
from mmrec.benchmarks.roofs import ITEM_BYTES, bytes_moved
from mmrec.conformance.ops import Op

MOST_SETS = 8
Draw = tuple[str, float, float]  # ("uniform", low, high) or ("normal", 0, scale)


def draw_of(op: Op, name: str, case: Case) -> Draw:
    """How an argument's values are drawn: decays close to 1, weights by their fan-in, all else normal.

    The decays reach 1 - 1/256 (below it, bfloat16 knows nothing but 1) and leave the product of T of them a normal
    number of float32, because arithmetic on subnormal numbers is slow on some processors.
    """
    letters, slowest = op.arguments[name], max(8 / case.lengths.T, 1 / 256)
    if name in op.domains:
        high = min(op.domains[name][1], 1.0)
        return "uniform", high - slowest, high
    if is_weight(letters):
        return "normal", 0.0, case.lengths.shape(letters)[1] ** -0.5
    return "normal", 0.0, 1.0


def number_of_sets(case: Case, device: Device) -> int:
    """Enough that their inputs are four caches full, if the device's memory allows: at least two of them."""
    inputs = sum(prod(case.lengths.shape(letters)) for letters in case.row.arguments.values()) * ITEM_BYTES[case.dtype]
    wanted = min(MOST_SETS, max(2, 1 + 4 * device.cache_bytes // inputs))
    fits = max(1, _free_bytes(device) // (4 * bytes_moved(case)))
    return min(wanted, fits)


def _free_bytes(device: Device) -> int:
    if device.kind == "cuda":
        import torch

        return torch.cuda.mem_get_info()[0]
    return 2 * 2**30


def prepare(function: Callable, case: Case, device: Device) -> Callable[[], Any]:
    """A function of nothing that runs the case once, on the next set of inputs."""
    make = _torch_calls if case.framework == "torch" else _jax_calls
    calls = itertools.cycle(list(make(function, case, device)))
    return lambda: next(calls)()


def _torch_calls(function: Callable, case: Case, device: Device) -> Iterator[Callable[[], Any]]:
    import torch

    def drawn(letters: str, draw: Draw) -> torch.Tensor:
        kind, low, high = draw
        values = torch.empty(case.lengths.shape(letters), device=device.kind)
        if kind == "uniform":
            values.uniform_(low, high, generator=generator)
        else:
            values.normal_(0.0, high, generator=generator)
        return values.to(getattr(torch, case.dtype))

    def forward(arguments: list[torch.Tensor]) -> Any:
        with torch.no_grad():
            return function(*arguments)

    def both(arguments: list[torch.Tensor], g: torch.Tensor) -> Any:
        # norm_bias takes no part in an rms norm: it has no path to the result
        return torch.autograd.grad(function(*arguments), arguments, g, allow_unused=True)

    if device.kind == "cuda":
        torch.cuda.empty_cache()  # JAX allocates from the same memory
    generator = torch.Generator(device.kind).manual_seed(0)
    for _ in range(number_of_sets(case, device)):
        arguments = [drawn(letters, draw_of(case.row, name, case)) for name, letters in case.row.arguments.items()]
        if case.direction == "forward":
            yield partial(forward, arguments)
        else:
            leaves = [argument.requires_grad_() for argument in arguments]
            g = drawn("BTD", ("normal", 0.0, 1.0))
            yield partial(both, leaves, g)


def _jax_calls(function: Callable, case: Case, device: Device) -> Iterator[Callable[[], Any]]:
    """Compiled as a whole by jax.jit, as it would be inside a model."""
    import jax

    keys = iter(jax.random.split(jax.random.key(0), 256))

    def drawn(letters: str, draw: Draw) -> jax.Array:
        kind, low, high = draw
        shape, key = case.lengths.shape(letters), next(keys)
        if kind == "uniform":
            values = jax.random.uniform(key, shape, minval=low, maxval=high)
        else:
            values = high * jax.random.normal(key, shape)
        return jax.block_until_ready(values.astype(case.dtype))

    def both(g: jax.Array, *arguments: jax.Array) -> Any:
        result, pull_back = jax.vjp(function, *arguments)
        return result, pull_back(g)  # the result too, or the compiler could leave parts of the forward out

    def waited_for(compiled: Callable, arguments: tuple[jax.Array, ...]) -> None:
        pending.pending = compiled(*arguments)
        if device.kind == "cpu":
            # A CPU would run queued calls at the same time, which times something else. A GPU runs one by one.
            jax.block_until_ready(pending.pending)

    if device.kind == "cuda":
        import torch

        torch.cuda.empty_cache()
    forward, whole = jax.jit(function), jax.jit(both)
    for _ in range(number_of_sets(case, device)):
        arguments = tuple(drawn(letters, draw_of(case.row, name, case)) for name, letters in case.row.arguments.items())
        if case.direction == "forward":
            yield partial(waited_for, forward, arguments)
        else:
            g = drawn("BTD", ("normal", 0.0, 1.0))
            yield partial(waited_for, whole, (g, *arguments))
