"""The reward head: one linear map from what is read off the trunk to a score.

A reading is a pooling over a completion's tokens and a layer l: `last` is h_T, `mean` is the mean of h_t. A head has
one or several, each with its weights:

    score = sum_readings w_r . pool_r(h^(l_r)) + b

Wherever a reading is a `mean`, every token has a term and the terms' mean is the score: an exact attribution, and a
dense reward for whoever wants one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trainer.rlhf.packing import pool


class Reading(NamedTuple):
    """What a head sees of the trunk."""

    pooling: str  # last | mean
    layer: int  # index into hidden_states: 0 is the embeddings, L the trunk's output


Hidden = Mapping[int, Float[Tensor, "batch time hidden"]]  # by layer


class RewardHead(NamedTuple):
    """Reads a score off the trunk; `mean`, `std`, `low`, `high` describe its training scores."""

    readings: tuple[Reading, ...]
    weight: Float[Tensor, "reading hidden"]
    bias: float = 0.0
    mean: float = 0.0
    std: float = 1.0
    low: float = float("-inf")
    high: float = float("inf")

    @property
    def layers(self) -> list[int]:
        return sorted({reading.layer for reading in self.readings})

    @property
    def has_terms(self) -> bool:
        """Whether every token has its share of the score: some reading is a mean."""
        return any(reading.pooling == "mean" for reading in self.readings)

    @property
    def is_value(self) -> bool:
        """Whether a prefix's score foretells the whole completion's: it is read at the last token, of one layer."""
        return len(self.readings) == 1 and not self.has_terms

    def to(self, device: torch.device | str) -> RewardHead:
        return self._replace(weight=self.weight.to(device))

    def facts(self) -> dict[str, Any]:
        """All but the weights, as JSON has it."""
        return self._asdict() | {"readings": [list(reading) for reading in self.readings], "weight": None}


def head_of(facts: Mapping[str, Any], weight: Float[Tensor, "*reading hidden"]) -> RewardHead:
    """The inverse of `facts`; also of those written when a head had one reading."""
    if "readings" not in facts:
        facts = {name: value for name, value in facts.items() if name not in Reading._fields} | {
            "readings": [(facts["pooling"], facts["layer"])]
        }
        weight = weight[None]
    readings = tuple(Reading(*reading) for reading in facts["readings"])
    # The copy lies where the allocator puts any tensor: sums over a file's own, odd addresses round differently.
    return RewardHead(**{**facts, "readings": readings, "weight": weight.clone()})


def read(
    head: RewardHead, hidden: Hidden, owner: Int[Tensor, "batch time"], count: int
) -> dict[Reading, Float[Tensor, "completion hidden"]]:
    """Pooled hidden states of each reading, for `count` completions whose tokens are marked in `owner`."""
    return {reading: pool(hidden[reading.layer], owner, count, reading.pooling) for reading in head.readings}


def score_pooled(
    head: RewardHead, pooled: Mapping[tuple[str, int], Float[Tensor, "completion hidden"]]
) -> Float[Tensor, " completion"]:
    """Scores of pooled hidden states, in fp32."""
    parts = [pooled[reading].float() @ weight for reading, weight in zip(head.readings, head.weight, strict=True)]
    return sum(parts[1:], parts[0]) + head.bias


def score_hidden(
    head: RewardHead, hidden: Hidden, completion_mask: Bool[Tensor, "batch time"]
) -> Float[Tensor, " batch"]:
    """One score a row, from the hidden states at `head.layers`; every row must have a completion token."""
    return score_pooled(head, read(head, hidden, row_owner(completion_mask), len(completion_mask)))


def token_scores(head: RewardHead, hidden: Hidden, owner: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time"]:
    """The term of each completion token, 0 where `owner` is -1; a completion's tokens stand side by side.

    Where the head `has_terms` the mean of a completion's terms is its score, exactly: what `last` readings say is said
    of the whole, and part of every token's term alike. Else a token's term is the score the completion would have if it
    ended there, and the last term is the score.
    """
    terms: dict[str, Tensor | float] = {"last": 0.0, "mean": 0.0}
    for reading, weight in zip(head.readings, head.weight, strict=True):
        terms[reading.pooling] = terms[reading.pooling] + hidden[reading.layer].float() @ weight
    at_every, at_last = terms["mean"], terms["last"]
    if not head.has_terms:
        return torch.where(owner >= 0, at_last + head.bias, 0.0)
    if isinstance(at_last, Tensor):
        is_last = owner >= 0
        is_last[:, :-1] &= owner[:, 1:] != owner[:, :-1]
        of_whole = at_last.new_zeros(int(owner.max()) + 1).index_put((owner[is_last],), at_last[is_last])
        at_every = at_every + of_whole[owner.clamp(min=0)]
    return torch.where(owner >= 0, at_every + head.bias, 0.0)


def row_owner(completion_mask: Bool[Tensor, "batch time"]) -> Int[Tensor, "batch time"]:
    """Owners for rows that hold one completion each: the row's number at its completion's tokens, -1 elsewhere."""
    rows = torch.arange(len(completion_mask), device=completion_mask.device)[:, None]
    return torch.where(completion_mask, rows, -1)


def centred(head: RewardHead, scores: Float[Tensor, " completion"]) -> RewardHead:
    """The head with its bias moved so that these training scores have mean 0, and their spread and range noted."""
    bias = head.bias - float(scores.mean())
    scores = scores - scores.mean()
    spread = float(scores.std(correction=0)) or 1.0
    return head._replace(bias=bias, mean=0.0, std=spread, low=float(scores.min()), high=float(scores.max()))
