"""fp64 for sums that must not round. Apple's MPS has none: there such sums are taken on the CPU."""

from __future__ import annotations

import torch
from torch import Tensor


def exact(values: Tensor) -> Tensor:
    """The values in fp64, on their device where it can."""
    return values.to(exact_device(values.device)).double()


def exact_device(device: torch.device) -> torch.device:
    """The device that computes in fp64 for this one."""
    return torch.device("cpu") if device.type == "mps" else device
