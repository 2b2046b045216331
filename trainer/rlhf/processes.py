"""One process or several: which prompts are mine, and sums over all of us.

Started by `accelerate launch` (or torchrun), the ranks share an update's prompts; losses are divided by global token
counts and gradients summed, so that any number of processes takes the same step as one (to rounding). No wrapper
around the model: the adapters are small enough to be summed as one flat tensor.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn


class Processes(NamedTuple):
    """This process's number among `world`."""

    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum(self, value: Tensor) -> Tensor:
        """The sum over processes of a tensor; in one process, the tensor."""
        if self.world == 1:
            return value
        total = value.detach().clone()
        dist.all_reduce(total)
        return total

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Every parameter's gradient becomes the sum over processes."""
        if self.world == 1:
            return
        parameters = list(parameters)
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).float().flatten() for p in parameters])
        dist.all_reduce(flat)
        for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = part.view_as(parameter).to(parameter.dtype)

    def gather(self, numbered: dict[int, object]) -> list:
        """Entries of all processes in the order of their global numbers."""
        parts = [numbered]
        if self.world > 1:
            parts = [None] * self.world
            dist.all_gather_object(parts, numbered)
        entries = {number: entry for part in parts for number, entry in part.items()}
        return [entries[number] for number in sorted(entries)]

    def rounds(self, count: int) -> Iterator[range]:
        """The numbers below `count`, one a process at a time: number n is for process n modulo `world`.

        All go through the same rounds, so that they can agree in each.
        """
        for first in range(0, count, self.world):
            yield range(first, min(first + self.world, count))

    def barrier(self) -> None:
        if self.world > 1:
            dist.barrier()


ALONE = Processes()


def is_first_started() -> bool:
    """Whether this process is alone or the first of its launch; known before they join."""
    return int(os.environ.get("WORLD_SIZE", "1")) == 1 or os.environ.get("RANK", "0") == "0"


def join_processes() -> Processes:
    """The group a launcher's environment describes, or this process alone."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return ALONE
    has_gpu = torch.cuda.is_available()
    if has_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))  # else all would share the first one
    if not dist.is_initialized():
        # The first process writes a reward model's report alone, and the others wait for it.
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if has_gpu else "gloo",  # stop signals are summed on the CPU
            timeout=timedelta(hours=12),
        )
    return Processes(dist.get_rank(), world)
