"""One case as something to call: the inputs on the device, several sets of them, used in turn.

The sets together are larger than the device's cache, so that no call finds its inputs there from the call before.
Every input is random and none is zero: zeros are cheap to multiply and to move.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

from mmrec.benchmarks.cases import Case, is_weight
from mmrec.benchmarks.clocks import pending
from mmrec.benchmarks.device import Device
from mmrec.benchmarks.implementations import implementations
from mmrec.benchmarks.peer_functions import as_given
from mmrec.benchmarks.peers import peer_of
from mmrec.benchmarks.plans import REGIMES
from mmrec.benchmarks.roofs import ITEM_BYTES, bytes_moved
from mmrec.conformance.ops import Op

MOST_SETS = 8
Draw = tuple[str, float, float]  # ("uniform", low, high) or ("normal", 0, scale)


@dataclass(frozen=True)
class Source:
    """What is called: a function, and what makes its arguments of the op's, once, before the clock runs."""

    function: Callable[..., Any]
    adapt: Callable[..., tuple[Any, ...]] = as_given


def source_of(case: Case) -> Source:
    if case.peer:
        peer = peer_of(case)
        return Source(peer.call, peer.adapt)
    return Source(implementations()[case.implementation].ops[case.op])


def draw_of(op: Op, name: str, case: Case) -> Draw:
    """How an argument's values are drawn: decays as the regime says or close to 1, weights by their fan-in, else normal.

    Without a regime the decays reach 1 - 1/256 (below it, bfloat16 knows nothing but 1) and leave the product of T of
    them a normal number of float32, because arithmetic on subnormal numbers is slow on some processors.
    """
    letters, regime = op.arguments[name], REGIMES.get(case.regime)
    if name in op.domains:
        high = min(op.domains[name][1], 1.0)
        if regime is not None:
            around = min(regime.decay, high - regime.decay) / 10
            return "uniform", regime.decay - around, regime.decay + around
        return "uniform", high - max(8 / case.lengths.T, 1 / 256), high
    if is_weight(letters):
        return "normal", 0.0, case.lengths.shape(letters)[1] ** -0.5
    return "normal", 0.0, regime.scale if regime is not None and letters == "BTD" else 1.0


def input_bytes(case: Case) -> int:
    return sum(prod(case.lengths.shape(letters)) for letters in case.row.arguments.values()) * ITEM_BYTES[case.dtype]


def number_of_sets(case: Case, device: Device) -> int:
    """Enough that their inputs are four caches full, if the device's memory allows: at least two of them."""
    wanted = min(MOST_SETS, max(2, 1 + 4 * device.cache_bytes // input_bytes(case)))
    fits = max(1, free_bytes(device) // (4 * bytes_moved(case)))
    return min(wanted, fits)


def too_large(case: Case, device: Device) -> str:
    """Why it cannot fit, or "": what one call reads and writes, and a second set of inputs, is the least it holds."""
    needed, free = bytes_moved(case) + input_bytes(case), free_bytes(device)
    if needed <= free:
        return ""
    return f"not timed: {case.group} needs at least {needed / 1e9:.3g} GB of memory, {free / 1e9:.3g} GB are free"


def ran_out_of_memory(said: str) -> bool:
    """Whether that is what an error says, given its type and text: Python's and PyTorch's, XLA's, CUDA's or cuBLAS's."""
    return any(sign in said for sign in ("MemoryError", "RESOURCE_EXHAUSTED", "out of memory", "ALLOC_FAILED"))


def free_bytes(device: Device) -> int:
    if device.kind == "cuda":
        import torch

        torch.cuda.empty_cache()  # what PyTorch keeps for later is free for JAX as well
        return torch.cuda.mem_get_info()[0]
    return 2 * 2**30


def prepare(source: Source, case: Case, device: Device) -> Callable[[], Any]:
    """A function of nothing that runs the case once, on the next set of inputs."""
    calls = itertools.cycle(list(calls_of(source, case, device)))
    return lambda: next(calls)()


def calls_of(source: Source, case: Case, device: Device) -> Iterator[Callable[[], Any]]:
    """The case on one set of inputs after the other, each made when it is asked for."""
    return (_torch_calls if case.framework == "torch" else _jax_calls)(source, case, device)


def _torch_calls(source: Source, case: Case, device: Device) -> Iterator[Callable[[], Any]]:
    import torch

    def drawn(letters: str, draw: Draw) -> torch.Tensor:
        kind, low, high = draw
        values = torch.empty(case.lengths.shape(letters), device=device.kind)
        if kind == "uniform":
            values.uniform_(low, high, generator=generator)
        else:
            values.normal_(0.0, high, generator=generator)
        return values.to(getattr(torch, case.dtype))

    def laid_out(array: torch.Tensor) -> torch.Tensor:
        """In the layout of the one who is called."""
        return array.transpose(1, 2).contiguous() if array.ndim == 3 and case.layout == "BDT" else array

    def forward(arguments: list[torch.Tensor]) -> Any:
        with torch.no_grad():
            return source.function(*arguments)

    def both(arguments: list[torch.Tensor], g: torch.Tensor) -> Any:
        # norm_bias takes no part in an rms norm: it has no path to the result
        return torch.autograd.grad(source.function(*arguments), arguments, g, allow_unused=True)

    generator = torch.Generator(device.kind).manual_seed(0)
    for _ in range(number_of_sets(case, device)):
        given = [drawn(letters, draw_of(case.row, name, case)) for name, letters in case.row.arguments.items()]
        arguments = [laid_out(array) for array in source.adapt(*given)]
        if case.direction == "forward":
            yield partial(forward, arguments)
        else:
            leaves = [argument.requires_grad_() for argument in arguments]
            yield partial(both, leaves, laid_out(drawn("BTD", ("normal", 0.0, 1.0))))


def _jax_calls(source: Source, case: Case, device: Device) -> Iterator[Callable[[], Any]]:
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
        result, pull_back = jax.vjp(source.function, *arguments)
        return result, pull_back(g)  # the result too, or the compiler could leave parts of the forward out

    def waited_for(compiled: Callable, arguments: tuple[jax.Array, ...]) -> None:
        pending.pending = compiled(*arguments)
        if device.kind == "cpu":
            # A CPU would run queued calls at the same time, which times something else. A GPU runs one by one.
            jax.block_until_ready(pending.pending)

    forward, whole = jax.jit(source.function), jax.jit(both)
    for _ in range(number_of_sets(case, device)):
        given = tuple(drawn(letters, draw_of(case.row, name, case)) for name, letters in case.row.arguments.items())
        arguments = source.adapt(*given)
        if case.direction == "forward":
            yield partial(waited_for, forward, arguments)
        else:
            yield partial(waited_for, whole, (drawn("BTD", ("normal", 0.0, 1.0)), *arguments))
