"""Where a piece of work spends its time, by kinds of operators: a yardstick of the training benchmarks.

Of the processor alone: what an accelerator does goes on while the processor already waits, and is not looked at.
"""

from __future__ import annotations

import time
from collections.abc import Callable

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


def time_by_kind(work: Callable[[], object]) -> dict[str, float]:
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


def shares_by_kind(work: Callable[[], object], device: str) -> str:
    """The kinds that take a hundredth of the time of `work` or more, the largest first, as one line.

    On another device than the processor nothing is done, and the line says so.
    """
    if device != "cpu":
        return f"no shares by kind: they are measured on a processor, and this ran on {device}"
    kinds = sorted(time_by_kind(work).items(), key=lambda item: -item[1])
    return ", ".join(f"{kind} {share:.0%}" for kind, share in kinds if share >= 0.01)
