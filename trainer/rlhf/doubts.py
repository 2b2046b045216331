"""Preference strength: what models that never saw a pair's prompt think of its label (Part II, 2401.06080, 2.2).

    mu = mean_m D_m,  sigma = std_m D_m,  D_m = r_m(winner) - r_m(loser)

The paper's ten models had all been trained on the pairs they vote on, which flatters wrong labels; here the votes are
out of fold. About a quarter of HH-RLHF's pairs have mu < 0. Such a pair is best shown to a person again, and so they
are listed in the report; a run may also soften, flip or drop them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from trainer.rlhf.data import Ranking
from trainer.rlhf.feature_rows import Features
from trainer.rlhf.pairs import Pairs
from trainer.rlhf.probe import Member, blend_deltas, fit_blend
from trainer.rlhf.ranking_file import sizes_of

VOTER_PROMPTS = 4000


class Votes(NamedTuple):
    """Mean and spread of the score differences that the voting models give each pair, and the first fold's models."""

    mean: Float[Tensor, " pair"]
    std: Float[Tensor, " pair"]
    voters: tuple[Mapping[tuple[str, int], Float[Tensor, " hidden"]], ...] = ()  # their weights of each reading


def out_of_fold_votes(
    features: Mapping[tuple[str, int], Features],
    pairs: Pairs,
    folds: Int[Tensor, " pair"],
    blend: Sequence[Member],
    *,
    members: int,
    seed: int,
) -> Votes:
    """For each fold, `members` models fitted on bootstraps of the other folds' prompts vote on its pairs.

    A bootstrap draws at most `VOTER_PROMPTS` prompts: the votes gain little by more, and the cost would grow.
    """
    generator = np.random.default_rng(seed)
    prompts = int(pairs.prompt.max()) + 1
    mean, std = (torch.empty(len(pairs.winner), dtype=torch.float64) for _ in range(2))
    voters = []
    for fold in folds.unique():
        inside, is_outside = pairs.where(folds != fold), folds == fold
        outside = pairs.where(is_outside)
        learned = inside.prompt.unique().numpy()
        votes = torch.empty(members, len(outside.winner), dtype=torch.float64)
        for member in range(members):
            drawn_prompts = generator.choice(learned, min(len(learned), VOTER_PROMPTS))
            draws = torch.from_numpy(np.bincount(drawn_prompts, minlength=prompts))[inside.prompt]
            drawn = inside.where(draws > 0)
            drawn = drawn._replace(weight=drawn.weight * draws[draws > 0])
            weights = fit_blend(features, blend, drawn.where(drawn.weight > 0))
            votes[member] = blend_deltas(features, weights, outside)
            if len(voters) < members:
                voters.append(weights)
        mean[is_outside], std[is_outside] = votes.mean(0), votes.std(0, correction=0)
    return Votes(mean, std, tuple(voters))


def mend(pairs: Pairs, votes: Votes, how: str) -> Pairs:
    """The pairs with those the models vote against (mu < 0) treated: `keep`, `soft`, `flip` or `drop`.

    `soft` puts the target halfway between the annotator's word and the voters' sigma(mu); ties stay as they are.
    """
    is_doubtful = (votes.mean < 0) & (pairs.target != 0.5)
    if how == "soft":
        return pairs._replace(target=torch.where(is_doubtful, (pairs.target + votes.mean.sigmoid()) / 2, pairs.target))
    if how == "flip":
        return pairs._replace(target=torch.where(is_doubtful, 1 - pairs.target, pairs.target))
    if how == "drop":
        return pairs._replace(weight=torch.where(is_doubtful, 0.0, pairs.weight))
    return pairs


def strength_margin(pairs: Pairs, rankings: Sequence[Ranking]) -> Float[Tensor, " pair"]:
    """The annotator's own strength as margin inside the sigmoid; 0 where none was given.

    It says how much better the first of a ranking is than the next: so it holds for the first against every other, and
    nothing is known of the pairs without the first, nor of a tie.
    """
    firsts = torch.from_numpy(np.fromiter(_strengths_of_firsts(rankings), float, sum(sizes_of(rankings))))
    return firsts[pairs.winner] - firsts[pairs.loser]


def _strengths_of_firsts(rankings: Sequence[Ranking]) -> Iterator[float]:
    """For each completion its ranking's strength where it is the first, else 0."""
    for ranking in rankings:
        best = min(ranking.ranks)
        yield from ((ranking.strength or 0.0) if rank == best else 0.0 for rank in ranking.ranks)


def voting_margin(votes: Votes) -> Float[Tensor, " pair"]:
    """The adaptive margin max(mu, 0) of Part II, eq. 8: pairs all models agree on must lie far apart."""
    return votes.mean.clamp(min=0)


def doubtful_pairs(rankings: Sequence[Ranking], pairs: Pairs, votes: Votes, *, limit: int) -> list[dict[str, Any]]:
    """The decided pairs the models vote against, the firmest contradiction first, as ids a queue can be made of."""
    starts = np.append(0, sizes_of(rankings)).cumsum()
    doubtful = ((votes.mean < 0) & (pairs.target != 0.5)).nonzero()[:, 0]
    found = []
    for place in doubtful[votes.mean[doubtful].argsort(stable=True)[:limit]].tolist():
        number = int(pairs.ranking[place])
        ranking = rankings[number]
        found.append(
            {
                "ranking": ranking.id,
                "prompt_id": ranking.prompt_id,
                "annotator": ranking.annotator,
                "preferred": ranking.completions[int(pairs.winner[place]) - starts[number]].id,
                "other": ranking.completions[int(pairs.loser[place]) - starts[number]].id,
                "mean": round(float(votes.mean[place]), 4),
                "std": round(float(votes.std[place]), 4),
            }
        )
    return found


def strengths(parts: Sequence[tuple[Sequence[Ranking], Pairs, Votes]], *, limit: int) -> dict[str, Any]:
    """The report's section: how many decided pairs the models vote against, quantiles of mu, and the doubtful pairs."""
    means = torch.cat([votes.mean[pairs.target != 0.5] for _, pairs, votes in parts])
    doubtful = [entry for part in parts for entry in doubtful_pairs(*part, limit=limit)]
    return {
        "pairs": len(means),
        "share_doubtful": float((means < 0).double().mean()),
        "mean_quantiles": {str(q): float(np.quantile(means.numpy(), q)) for q in (0.1, 0.25, 0.5, 0.75, 0.9)},
        "doubtful": sorted(doubtful, key=lambda entry: entry["mean"])[:limit],
    }
