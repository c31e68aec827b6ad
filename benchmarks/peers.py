"""Which functions of other libraries are timed beside ours? A measure of what a user gains, each in its own layout.

A peer is an extra: one that is not installed, raises or runs out of memory is a line that says so. None is judged
clause by clause; each is held once against the bound of its op on a small case (peer_check.py), because a fast wrong
kernel is no bar.

Left out: accelerated_scan.warp, which ends the process with an illegal memory access (seen on an H200, after wrong
results in float32 and bfloat16), and the gradient of torch's associative_scan, which is 0 for the decays of a pair.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import Any

from mmrec.benchmarks import peer_functions as functions
from mmrec.benchmarks.cases import DIRECTIONS, Case, Lengths
from mmrec.benchmarks.cuda_graph import gated_loop
from mmrec.benchmarks.plans import PLANS
from mmrec.conformance.ops import all_ops


@dataclass(frozen=True)
class Peer:
    """One way to compute an op with what a library ships."""

    name: str
    op: str
    function: Callable[..., Any]  # of what ``adapt`` makes of the op's arguments, and ``dim``, the axis of time
    framework: str = "torch"
    layout: str = "BTD"
    directions: tuple[str, ...] = DIRECTIONS
    adapt: Callable[..., tuple[Any, ...]] = functions.without_initial
    starts_from: float | None = 0.0  # its fixed initial state or value; None where it takes the op's
    declares: Mapping[str, str] = field(default_factory=dict, hash=False)
    needs: str = ""  # the module that must be installed
    kinds: tuple[str, ...] = ("cpu", "cuda")
    most_sizes: int = 99  # of its op's plan, from the first: compiling takes seconds for every one
    eager: bool = False  # made of PyTorch's own kernels: nothing is compiled for it

    @property
    def call(self) -> Callable[..., Any]:
        return partial(self.function, dim=self.layout.index("T"))

    @property
    def takes(self) -> tuple[str, ...]:
        """The op's arguments that it is given."""
        op = all_ops()[self.op]
        return tuple(name for name in op.arguments if self.starts_from is None or name != op.carry)

    def missing_here(self) -> str:
        """Why it cannot be timed, or ""."""
        for package in (self.framework, self.needs.partition(".")[0]):
            if package and find_spec(package) is None:
                return f"{package} is not installed"
        return ""


# What keeps a library from storing a choice that it made by measuring.
UNKEPT = {"FLA_CACHE_RESULTS": "0", "TRITON_CACHE_AUTOTUNING": "0"}
LAYOUTS = ("BTD", "BDT")
PRODUCT: Any = {"op": "decay_product_exact", "starts_from": 1.0}
LOG_PRODUCT: Any = {"op": "decay_product", "starts_from": 1.0, "declares": {"class": "log"}}  # has a bound of its own
LINEAR: Any = {"op": "linear_recurrence"}
EAGER: Any = {"eager": True, "most_sizes": 2}
COMPILED: Any = {"directions": ("forward",), "kinds": ("cuda",), "most_sizes": 1}
HGRN: Any = {**LINEAR, "adapt": functions.log_gates, "needs": "fla", "kinds": ("cuda",), "most_sizes": 2}

PEERS = (
    *(Peer("torch.cumprod", function=functions.torch_cumprod, layout=one, **PRODUCT, **EAGER) for one in LAYOUTS),
    *(Peer("torch.cumsum", "log_decay_product", functions.torch_cumsum, layout=one, **EAGER) for one in LAYOUTS),
    *(Peer("torch exp(cumsum(log))", function=functions.torch_log_product, layout=one, **LOG_PRODUCT, **EAGER)
      for one in LAYOUTS),
    Peer("torch.compile exp(cumsum(log))", function=functions.torch_log_product_compiled, layout="BDT",
         **LOG_PRODUCT, **COMPILED),
    Peer("torch associative_scan", function=functions.torch_scan_product, layout="BDT", **PRODUCT, **COMPILED),
    *(Peer("torch associative_scan", function=functions.torch_scan, layout=one, **LINEAR, **COMPILED) for one in LAYOUTS),
    Peer("torch loop", function=functions.torch_loop, directions=("forward",), most_sizes=1, eager=True, **LINEAR),
    Peer("fla chunk_hgrn", function=functions.fla_chunk, **HGRN),
    Peer("fla fused_recurrent_hgrn", function=functions.fla_recurrent, **HGRN),
    Peer("accelerated_scan.scalar", function=functions.accelerated_scan, layout="BDT", needs="accelerated_scan",
         kinds=("cuda",), **LINEAR),
    Peer("torch loop in a CUDA graph", "gated_recurrence", gated_loop, directions=("forward",), starts_from=None,
         adapt=functions.as_given, kinds=("cuda",), most_sizes=1, eager=True),
    Peer("jax.lax.associative_scan", function=functions.jax_scan_product, framework="jax", most_sizes=1, **PRODUCT),
    Peer("jax.lax.associative_scan", function=functions.jax_scan, framework="jax", most_sizes=1, **LINEAR),
    Peer("jax exp(cumsum(log))", function=functions.jax_log_product, framework="jax", most_sizes=1, **LOG_PRODUCT),
)  # fmt: skip


def peer_cases(kind: str) -> Iterator[Case]:
    """Every peer that runs on that kind of device, at its op's sizes and dtypes."""
    for peer in PEERS:
        for size in PLANS[kind].of(all_ops()[peer.op])[: peer.most_sizes] if kind in peer.kinds else ():
            for dtype in size.dtypes:
                for regime in size.regimes:
                    for direction in peer.directions:
                        yield case_of(peer, direction, size.lengths, dtype, regime)


def case_of(peer: Peer, direction: str, lengths: Lengths, dtype: str, regime: str = "") -> Case:
    return Case(peer.op, peer.name, peer.framework, direction, lengths, dtype, regime, peer.layout, peer=True)


def peer_of(case: Case) -> Peer:
    return next(p for p in PEERS if (p.name, p.op, p.layout) == (case.implementation, case.op, case.layout))
