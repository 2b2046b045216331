"""What a processor can do, and where a piece of work spends its time: the yardsticks of the training benchmarks."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

# An operator belongs to the first kind that has one of its words in its name.
KINDS = {
    "attention kernel": ("scaled_dot_product", "flash_attention"),
    "matrix products": ("mm", "linear", "conv", "dot", "matmul", "einsum"),
    "copies and indexing": (
        *("copy", "cat", "index", "gather", "scatter", "clone", "contiguous", "fill", "zero"),
        *("slice", "expand"),
    ),
    "softmax, exp, log": ("softmax", "logsumexp", "exp", "log"),
    "optimiser": ("foreach", "adam", "addcdiv", "addcmul", "lerp"),
    "search, sort, sums": ("sort", "searchsorted", "cumsum", "sum", "mean", "max", "min", "norm"),
    "element by element": (
        "mul",
        "add",
        "sub",
        "div",
        "neg",
        "silu",
        "gelu",
        "sigmoid",
        "rsqrt",
        "pow",
        "where",
        "cos",
    ),
}


def matmul_peak() -> float:
    """FLOP/s of a large bf16 matrix product, the best of five."""
    left = torch.randn(2048, 2048, dtype=torch.bfloat16)
    seconds = []
    for _ in range(5):
        started = time.monotonic()
        left @ left
        seconds.append(time.monotonic() - started)
    return 2 * 2048**3 / min(seconds)


def time_by_kind(work: Callable[[], None]) -> dict[str, float]:
    """Share of the wall time of `work` in each kind of operator; what is left is Python, the profiler and waiting."""
    started = time.monotonic()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        work()
    total = 1e6 * (time.monotonic() - started)
    shares = dict.fromkeys(KINDS, 0.0)
    shares["other operators"] = 0.0
    for row in found.key_averages():
        if row.device_type == DeviceType.CPU and row.key.startswith("aten::"):
            kind = next((kind for kind, words in KINDS.items() if any(word in row.key for word in words)), None)
            shares[kind or "other operators"] += row.self_cpu_time_total / total
    shares["Python and the rest"] = 1 - sum(shares.values())
    return shares
