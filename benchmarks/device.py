"""Which device is timed, and how fast does it copy and multiply? The rates are measured in the run that uses them."""

import ctypes
import os
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmrec.benchmarks.clocks import clock_of
from mmrec.conformance.cache import cache_folder

# JAX keeps on disk what it compiles for a GPU, as Triton and Inductor do by themselves: every process of a run finds it.
# (What it compiles for a CPU holds on the very same processor only.)
PROGRAMS_KEPT = {
    "JAX_COMPILATION_CACHE_DIR": str(cache_folder("jax")),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


@dataclass(frozen=True)
class Device:
    """A device and its measured rates."""

    kind: str  # cpu or cuda: chooses sizes and thresholds
    name: str  # as the judge's result file names it: "cpu", "NVIDIA H200"
    title: str  # for people
    cache_bytes: int
    copy_rate: float  # bytes read and written a second, by one large copy
    product_rates: Mapping[str, float]  # operations a second, by one large matrix product (float32 without TF32)


@cache
def device_kind() -> str:
    try:
        import torch
    except ImportError:
        return "cpu"
    return "cuda" if torch.cuda.is_available() else "cpu"


def device_name() -> str:
    import torch

    return torch.cuda.get_device_name() if device_kind() == "cuda" else "cpu"


def settle() -> None:
    """Prepare both frameworks, before JAX starts: one shared GPU, or one thread of the CPU.

    On cores that others use too, threads wait for each other: times then vary a hundredfold (seen), and say more
    about the neighbours than about the code. One thread varies by what it is disturbed, which the best round is not.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX would take three quarters of the GPU
    if device_kind() == "cuda":
        for name, value in {**PROGRAMS_KEPT, **triton_kernels_kept()}.items():
            os.environ.setdefault(name, value)
    else:
        import torch

        torch.set_num_threads(1)
        os.environ["NPROC"] = "1"  # the size of XLA's thread pool
        _keep_memory()


def triton_kernels_kept() -> dict[str, str]:
    """The folder where Triton keeps what it compiles, by name, so that it stays the same: torch.compile moves it to one of
    its own for the rest of a process, which then does not find what others compiled (seen: the kernels after the first
    compiled peer were compiled again, 7 to 25 s each)."""
    if find_spec("triton") is None:
        return {}
    import triton

    return {"TRITON_CACHE_DIR": triton.knobs.cache.dir}


def _keep_memory() -> None:
    """Let the C library keep what is freed, as a process that runs the same steps again and again would like.

    By default glibc gives every large array back, and the next one is made of fresh pages, for each of which the system
    is called and a page is zeroed. On a virtual machine that took more time than the scans themselves (measured: half
    of it), and a result that is allocated in every call cannot be compared with a copy into an array that is there.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    trim_threshold, mmap_max, arena_max = -1, -4, -8  # their numbers in malloc.h
    for option, value in ((mmap_max, 0), (trim_threshold, 2**31 - 1), (arena_max, 1)):
        libc.mallopt(option, value)


def unmeasured() -> Device:
    """The device without its rates: for what only calls on it, and asks for no share of a limit."""
    kind = device_kind()
    return Device(kind, device_name(), "", _cache_bytes(kind), 1, {})


def measure(dtypes: Iterable[str] = ("float32",)) -> Device:
    """The device that PyTorch uses here, measured now (a second or two), with its product rate in these dtypes."""
    kind = device_kind()
    title = device_name() if kind == "cuda" else f"{_processor()}, one thread"
    rates = {dtype: _product_rate(kind, dtype) for dtype in dtypes}
    return Device(kind, device_name(), title, _cache_bytes(kind), _copy_rate(kind), rates)


def _copy_rate(kind: str) -> float:
    import torch

    size = 2**30 if kind == "cuda" else min(2**29, max(2**26, 2 * _cache_bytes(kind)))
    source = torch.rand(size // 4, device=kind)
    target = torch.empty_like(source)
    return 2 * size / _fastest(lambda: target.copy_(source), kind)


def _product_rate(kind: str, dtype: str) -> float:
    import torch

    n = 8192 if kind == "cuda" else 512
    left, right = (torch.randn(n, n, device=kind).to(getattr(torch, dtype)) for _ in range(2))
    allowed = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        return 2 * n**3 / _fastest(lambda: left @ right, kind)
    finally:
        torch.set_float32_matmul_precision(allowed)


def _fastest(work: Callable[[], Any], kind: str) -> float:
    """Seconds of a call in the best of several rounds: whatever disturbs a round only adds to it."""
    clock = clock_of("torch", kind)

    def round_of(calls: int) -> float:
        begin = clock()
        for _ in range(calls):
            work()
        return (clock() - begin) / calls

    once = min(round_of(1) for _ in range(3))  # warms up
    rounds = 20 if kind == "cuda" else 100  # short rounds find a moment without the neighbours
    calls = min(10, max(1, int(0.01 / once))) if kind == "cuda" else 1  # queued up, so that a launch costs nothing
    return min(round_of(calls) for _ in range(rounds))


def _cache_bytes(kind: str) -> int:
    """The last cache before memory: what is much larger cannot stay in it."""
    if kind == "cuda":
        import torch

        return int(torch.cuda.get_device_properties().L2_cache_size)
    sizes = []
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = file.read_text().strip()
        if text[-1:] in "KM" and text[:-1].isdigit():
            sizes.append(int(text[:-1]) * {"K": 2**10, "M": 2**20}[text[-1]])
    return max(sizes, default=64 * 2**20)  # not told: larger than most


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
