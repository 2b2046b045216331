"""The most memory that a process held, by one rule for every benchmark and both of its sides."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def peak_gb(device: str = "cpu") -> float:
    """GiB: on CUDA what tensors took at most, elsewhere the process's largest resident set, libraries included.

    Linux's count is VmHWM, which starts anew when a program is started; ru_maxrss does not: its floor is the peak of
    whoever started it.
    """
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() / 2**30
    lines = STATUS.read_text().splitlines() if STATUS.exists() else []
    if peak := dict(line.split(":", 1) for line in lines).get("VmHWM"):  # which some sandboxes leave out
        return int(peak.removesuffix("kB")) / 2**20
    unit = 1 if sys.platform == "darwin" else 1024  # bytes of ru_maxrss
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
