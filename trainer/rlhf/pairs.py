"""Rankings to preference pairs: who beat whom, with what certainty, and how much the pair weighs.

A ranking of K completions gives up to K(K-1)/2 pairs. Each ranking's pairs share its weight, so that every ranking
weighs the same whatever its K (InstructGPT, arXiv 2203.02155, eq. 1).
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trainer.rlhf.data import Ranking
from trainer.rlhf.same_prompts import SamePrompts


class Pairs(NamedTuple):
    """Pairs of completions, numbered through the rankings they come from."""

    winner: Int[Tensor, " pair"]
    loser: Int[Tensor, " pair"]
    target: Float[Tensor, " pair"]  # wanted probability that `winner` is preferred; 0.5 for a tie
    weight: Float[Tensor, " pair"]
    ranking: Int[Tensor, " pair"]
    prompt: Int[Tensor, " pair"]  # 0, 1, …, as they first appear

    def where(self, mask: Bool[Tensor, " pair"]) -> Pairs:
        return Pairs(*(column[mask] for column in self))

    def of_rankings(
        self, numbers: Sequence[int], starts: Int[Tensor, " ranking_and_end"]
    ) -> tuple[Pairs, Int[Tensor, " pair"]]:
        """The pairs of some rankings, numbered as if their completions alone stood one after another.

        `starts` has every ranking's first completion, and the end. Also returns where the pairs stand among all.
        """
        own, moved = 0, {}
        for number in numbers:
            moved[number] = own - int(starts[number])
            own += int(starts[number + 1] - starts[number])
        chosen = torch.tensor(sorted(moved))
        firsts, ends = (torch.searchsorted(self.ranking, chosen, right=is_end) for is_end in (False, True))
        places = torch.cat([torch.arange(first, end) for first, end in zip(firsts, ends, strict=True)])
        found = Pairs(*(column[places] for column in self))
        shift = torch.tensor([moved[number] for number in found.ranking.tolist()], dtype=torch.long)
        return found._replace(winner=found.winner + shift, loser=found.loser + shift), places


def pairs_of(rankings: Sequence[Ranking], *, ties: str = "half", label_smoothing: float = 0.0) -> Pairs:
    """All pairs of the rankings, winner first; `ties` is `drop`, or else a tie stands with target 0.5.

    Two completions with the same text make no pair: nothing in them can be preferred.
    """
    winner, loser, number, target, weight = array("q"), array("q"), array("q"), array("d"), array("d")
    offset, same = 0, SamePrompts()
    for place, ranking in enumerate(rankings):
        same.add(ranking)
        ordered = _ordered_pairs(ranking, has_ties=ties != "drop")
        for better, worse in ordered:
            winner.append(offset + better)
            loser.append(offset + worse)
            target.append(0.5 if ranking.ranks[better] == ranking.ranks[worse] else 1.0 - label_smoothing)
        weight.extend([ranking.weight / max(1, len(ordered))] * len(ordered))
        number.extend([place] * len(ordered))
        offset += len(ranking.ranks)
    ranking = _tensor(number, torch.long)
    prompt = torch.from_numpy(np.unique(same.firsts(), return_inverse=True)[1])[ranking]
    columns = (_tensor(winner, torch.long), _tensor(loser, torch.long), _tensor(target), _tensor(weight))
    return Pairs(*columns, ranking, prompt)


def has_preference(ranking: Ranking) -> bool:
    """Whether one completion of the ranking is preferred to another."""
    return bool(_ordered_pairs(ranking, has_ties=False))


def _ordered_pairs(ranking: Ranking, *, has_ties: bool) -> list[tuple[int, int]]:
    """Places in a ranking, the better one first; of a tie the earlier."""
    ranks, completions = ranking.ranks, ranking.completions
    return [
        (a, b) if ranks[a] <= ranks[b] else (b, a)
        for a in range(len(ranks))
        for b in range(a + 1, len(ranks))
        if (has_ties or ranks[a] != ranks[b]) and completions[a].text != completions[b].text
    ]


def _tensor(values: array, kind: torch.dtype = torch.float64) -> Tensor:
    return torch.from_numpy(np.array(values)).to(kind)


def folds_of(pairs: Pairs, *, folds: int, seed: int) -> Int[Tensor, " pair"]:
    """A fold for each pair: prompts are dealt, never pairs, so that no prompt is both learned from and judged on."""
    prompts = int(pairs.prompt.max()) + 1
    deal = np.random.default_rng(seed).permutation(prompts) % folds
    return torch.from_numpy(deal)[pairs.prompt]
