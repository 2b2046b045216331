"""Features on disk give the rows that the matrix in memory has."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from trainer.rlhf.feature_rows import StoredRows


@pytest.fixture
def stored(tmp_path):
    matrix = torch.randn(11, 3, generator=torch.Generator().manual_seed(1))
    starts = torch.tensor([0, 4, 5, 11])
    for number, part in enumerate(matrix.split([4, 1, 6])):
        save_file({"mean.2": part.contiguous(), "last.2": -part}, tmp_path / f"{number}.safetensors")
    return matrix, StoredRows(lambda number: tmp_path / f"{number}.safetensors", starts, "mean.2", 3)


@pytest.mark.parametrize("rows", [[0], [10, 0, 4, 4, 3], [5, 7, 6], list(range(11)), []])
def test_it_gives_the_rows_asked_for_in_their_order(stored, rows):
    matrix, there = stored
    rows = torch.tensor(rows, dtype=torch.long)
    assert torch.equal(there[rows], matrix[rows])
    assert len(there) == 11 and there.shape == (11, 3)
