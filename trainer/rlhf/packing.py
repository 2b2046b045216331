"""Shared-prompt packing: the K completions of one prompt in one row, the prompt computed once.

    tokens     p1 p2 p3 | a1 a2 a3 | b1 b2 |
    positions   0  1  2 |  3  4  5 |  3  4 |      restart after the prompt
    sees       prompt causally; each completion: the prompt, and itself causally

Trainers that expand K-way rankings to pairs compute the prompt K(K-1) times. A packed row gives every completion
exactly the hidden states it has alone (to rounding), for rotary and for learned positions, since only position ids and
the mask tell where a token stands. Rows with one completion are the unpacked case: there is no second code path.

Left out: several prompts in one row; rows of like length are batched instead, which keeps the mask small.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Group(NamedTuple):
    """The token ids of one prompt and of its completions."""

    prompt_ids: list[int]
    completions: list[list[int]]

    @property
    def tokens(self) -> int:
        return len(self.prompt_ids) + sum(map(len, self.completions))


class PackedBatch(NamedTuple):
    """Groups as rows of one batch; completions are numbered through the batch, in the order of the groups."""

    input_ids: Int[Tensor, "batch time"]
    position_ids: Int[Tensor, "batch time"]
    attention_mask: Bool[Tensor, "batch 1 time time"]
    owner: Int[Tensor, "batch time"]  # number of the completion a token belongs to; -1: prompt or padding
    count: int  # completions in the batch


def pack(groups: Sequence[Group], *, pad_id: int) -> PackedBatch:
    """Lays groups out as rows, padded on the right; padding sees only itself, so that no softmax is empty."""
    time = max(group.tokens for group in groups)
    input_ids = torch.full((len(groups), time), pad_id)
    position_ids = torch.zeros((len(groups), time), dtype=torch.long)
    owner = torch.full((len(groups), time), -1)
    segment = torch.full((len(groups), time), -1)  # 0: prompt, 1…K: completions, -1: padding
    count = 0
    for row, group in enumerate(groups):
        start = len(group.prompt_ids)
        input_ids[row, :start] = torch.tensor(group.prompt_ids)
        position_ids[row, :start] = torch.arange(start)
        segment[row, :start] = 0
        for place, completion in enumerate(group.completions, start=1):
            end = start + len(completion)
            input_ids[row, start:end] = torch.tensor(completion)
            position_ids[row, start:end] = torch.arange(len(completion)) + len(group.prompt_ids)
            segment[row, start:end] = place
            owner[row, start:end] = count
            start, count = end, count + 1
    return PackedBatch(input_ids, position_ids, _visibility(segment)[:, None], owner, count)


def additive(mask: Bool[Tensor, "batch 1 query seen"], dtype: torch.dtype) -> Float[Tensor, "batch 1 query seen"]:
    """The mask as what is added to attention's weights: 0 where a token may be seen, else the least number."""
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)


def _visibility(segment: Int[Tensor, "batch time"]) -> Bool[Tensor, "batch time time"]:
    time = segment.shape[1]
    is_past = torch.ones(time, time, dtype=torch.bool).tril()
    query, key = segment[:, :, None], segment[:, None, :]
    may_see = is_past & (((key == 0) & (query >= 0)) | ((query == key) & (query > 0)))
    return may_see | torch.eye(time, dtype=torch.bool)


def unpacked(group: Group) -> list[Group]:
    """The same completions one a row, each with its own copy of the prompt."""
    return [Group(group.prompt_ids, [completion]) for completion in group.completions]


def batches(groups: Sequence[Group], *, max_tokens: int) -> Iterator[list[int]]:
    """Indices of groups in batches of like length, at most `max_tokens` with padding, the longest first."""
    batch: list[int] = []
    for index in sorted(range(len(groups)), key=lambda index: -groups[index].tokens):
        if batch and groups[batch[0]].tokens * (len(batch) + 1) > max_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def pool(
    hidden: Float[Tensor, "batch time hidden"], owner: Int[Tensor, "batch time"], count: int, pooling: str
) -> Float[Tensor, "completion hidden"]:
    """One vector a completion, in fp32: its `last` token's hidden state or the `mean` over its tokens."""
    is_owned = owner.flatten() >= 0
    states, owners = hidden.flatten(0, 1)[is_owned].float(), owner.flatten()[is_owned]
    if pooling == "mean":
        sums = states.new_zeros(count, states.shape[1]).index_add(0, owners, states)
        return sums / torch.bincount(owners, minlength=count)[:, None]
    places = torch.arange(len(owners), device=owners.device)
    last = torch.zeros(count, dtype=torch.long, device=owners.device).scatter_reduce(0, owners, places, "amax")
    return states[last]
