"""The reward head: a pooling, a layer, and one linear map from a hidden state to a score.

    last:  score = w·h_T + b            mean:  score = mean_t (w·h_t + b)

With `mean` the score is the mean of one term per token: an exact attribution, and a dense reward for whoever wants one.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trainer.rlhf.packing import pool


class RewardHead(NamedTuple):
    """Reads a score off one layer of the trunk; `mean`, `std`, `low`, `high` describe its training scores."""

    pooling: str  # last | mean
    layer: int  # index into hidden_states: 0 is the embeddings, L the trunk's output
    weight: Float[Tensor, " hidden"]
    bias: float = 0.0
    mean: float = 0.0
    std: float = 1.0
    low: float = float("-inf")
    high: float = float("inf")

    def to(self, device: torch.device | str) -> RewardHead:
        return self._replace(weight=self.weight.to(device))


def score_pooled(head: RewardHead, pooled: Float[Tensor, "completion hidden"]) -> Float[Tensor, " completion"]:
    """Scores of pooled hidden states, in fp32."""
    return pooled.float() @ head.weight + head.bias


def score_hidden(
    head: RewardHead, hidden: Float[Tensor, "batch time hidden"], completion_mask: Bool[Tensor, "batch time"]
) -> Float[Tensor, " batch"]:
    """One score a row, from the hidden states at `head.layer`; every row must have a completion token."""
    return score_pooled(head, pool(hidden, row_owner(completion_mask), len(completion_mask), head.pooling))


def token_scores(
    head: RewardHead, hidden: Float[Tensor, "batch time hidden"], completion_mask: Bool[Tensor, "batch time"]
) -> Float[Tensor, "batch time"]:
    """The term of each completion token, 0 elsewhere.

    With `mean` pooling the mean of a row's terms is its score, exactly. With `last` a token's term is the score the
    completion would have if it ended there, and the last term is the score.
    """
    return torch.where(completion_mask, hidden.float() @ head.weight + head.bias, 0.0)


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
