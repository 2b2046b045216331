"""Features that do not fit in memory: rows of a matrix in many files, of which only those asked for are read.

They are read and not mapped into memory, since a map that is gone through again and again grows to the whole matrix.
The pages stay with the kernel as long as nobody else needs the memory: a second pass costs a copy.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from torch import Tensor

BLOCK_ROWS = 2048  # completions whose features are held in memory at once


class StoredRows:
    """The tensor `name` of the safetensors files `path_of(0)`, `path_of(1)`, …, one under the other."""

    def __init__(self, path_of: Callable[[int], Path], starts: Int[Tensor, " file_and_end"], name: str, size: int):
        self.path_of, self.starts, self.name = path_of, starts, name
        self.shape = (int(starts[-1]), size)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Int[Tensor, " row"]) -> Float[Tensor, "row hidden"]:
        wanted, places = rows.unique(return_inverse=True)
        files = torch.searchsorted(self.starts, wanted, right=True) - 1
        numbers, counts = files.unique_consecutive(return_counts=True)
        found = torch.empty(len(wanted), self.shape[1])
        done = 0
        for number, own in zip(numbers.tolist(), (wanted - self.starts[files]).split(counts.tolist()), strict=True):
            first, last = int(own[0]), int(own[-1])
            with safe_open(self.path_of(number), "pt") as file:
                found[done : done + len(own)] = file.get_slice(self.name)[first : last + 1][own - first]
            done += len(own)
        return found[places]


Features = Float[Tensor, "completion hidden"] | StoredRows
