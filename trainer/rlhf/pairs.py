"""Rankings to preference pairs: who beat whom, with what certainty, and how much the pair weighs.

A ranking of K completions gives up to K(K-1)/2 pairs. Each ranking's pairs share its weight, so that every ranking
weighs the same whatever its K (InstructGPT, arXiv 2203.02155, eq. 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trainer.rlhf.data import Ranking


class Pairs(NamedTuple):
    """Pairs of completions, numbered through the rankings they come from."""

    winner: Int[Tensor, " pair"]
    loser: Int[Tensor, " pair"]
    target: Float[Tensor, " pair"]  # wanted probability that `winner` is preferred; 0.5 for a tie
    weight: Float[Tensor, " pair"]
    ranking: Int[Tensor, " pair"]
    prompt: Int[Tensor, " pair"]

    def where(self, mask: Bool[Tensor, " pair"]) -> Pairs:
        return Pairs(*(column[mask] for column in self))

    def of_rankings(self, numbers: Sequence[int], sizes: Sequence[int]) -> tuple[Pairs, Int[Tensor, " pair"]]:
        """The pairs of some rankings, numbered as if their completions alone stood one after another.

        `sizes` counts the completions of every ranking. Also returns where the pairs stand among all.
        """
        starts = torch.tensor([0, *sizes]).cumsum(0)
        shift = torch.zeros(len(sizes), dtype=torch.long)
        own = 0
        for number in numbers:
            shift[number] = own - starts[number]
            own += sizes[number]
        places = torch.isin(self.ranking, torch.tensor(numbers)).nonzero()[:, 0]
        found = Pairs(*(column[places] for column in self))
        moved = shift[found.ranking]
        return found._replace(winner=found.winner + moved, loser=found.loser + moved), places


def pairs_of(rankings: Sequence[Ranking], *, ties: str = "half", label_smoothing: float = 0.0) -> Pairs:
    """All pairs of the rankings, winner first; `ties` is `drop`, or else a tie stands with target 0.5."""
    prompts: dict[str, int] = {}
    rows: list[tuple[int, int, float, float, int, int]] = []
    offset = 0
    for number, ranking in enumerate(rankings):
        prompt = prompts.setdefault(ranking.prompt_id, len(prompts))
        ordered = [
            (a, b) if ranking.ranks[a] <= ranking.ranks[b] else (b, a)
            for a in range(len(ranking.ranks))
            for b in range(a + 1, len(ranking.ranks))
            if ties != "drop" or ranking.ranks[a] != ranking.ranks[b]
        ]
        for winner, loser in ordered:
            target = 0.5 if ranking.ranks[winner] == ranking.ranks[loser] else 1.0 - label_smoothing
            rows.append((offset + winner, offset + loser, target, ranking.weight / len(ordered), number, prompt))
        offset += len(ranking.ranks)
    columns = list(zip(*rows, strict=True)) if rows else [()] * 6
    kinds = (torch.long, torch.long, torch.float64, torch.float64, torch.long, torch.long)
    return Pairs(*(torch.tensor(column, dtype=kind) for column, kind in zip(columns, kinds, strict=True)))


def folds_of(pairs: Pairs, *, folds: int, seed: int) -> Int[Tensor, " pair"]:
    """A fold for each pair: prompts are dealt, never pairs, so that no prompt is both learned from and judged on."""
    prompts = int(pairs.prompt.max()) + 1
    deal = np.random.default_rng(seed).permutation(prompts) % folds
    return torch.from_numpy(deal)[pairs.prompt]
