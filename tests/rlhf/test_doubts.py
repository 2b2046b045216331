"""Votes on preference strength: planted wrong labels must be found, by models that did not learn them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.rlhf.planted import planted
from trainer.rlhf.doubts import (
    Votes,
    doubtful_pairs,
    mend,
    out_of_fold_votes,
    strength_margin,
    strengths,
    voting_margin,
)
from trainer.rlhf.pairs import folds_of, pairs_of
from trainer.rlhf.probe import Member

READING = ("mean", 1)


def alone(features, pairs, folds, l2):
    """The arguments of `out_of_fold_votes` for a blend of one."""
    return {READING: features}, pairs, folds_of(pairs, folds=folds, seed=0), [Member(*READING, l2, 1.0)]


def turned_round(ranking):
    return replace(ranking, ranks=tuple(1 + max(ranking.ranks) - rank for rank in ranking.ranks))


def test_it_finds_planted_flips_among_the_lowest_votes():
    features, rankings, weight = planted(300, k=2, noise=0.2)
    gaps = (features.double().numpy() @ weight).reshape(-1, 2) @ (1, -1)
    wrong = set(np.flatnonzero(np.abs(gaps) > 1.5)[::6].tolist())  # flips between equals nobody could find
    rankings = [turned_round(ranking) if number in wrong else ranking for number, ranking in enumerate(rankings)]
    pairs = pairs_of(rankings)
    votes = out_of_fold_votes(*alone(features, pairs, 5, 0.03), members=5, seed=0)
    lowest = votes.mean.argsort()[: len(rankings) // 10].tolist()
    caught = wrong & {int(pairs.ranking[place]) for place in lowest}
    assert 20 <= len(wrong) <= 30 and len(caught) >= len(wrong) - 2
    assert (votes.std > 0).all()


def test_it_repeats_itself_from_the_same_seed():
    features, rankings, _ = planted(20)
    pairs = pairs_of(rankings)
    first, second = (out_of_fold_votes(*alone(features, pairs, 3, 0.1), members=3, seed=4) for _ in range(2))
    assert torch.equal(first.mean, second.mean) and torch.equal(first.std, second.std)


def test_its_voters_learn_from_no_more_prompts_than_they_need(monkeypatch):
    features, rankings, _ = planted(40)
    pairs = pairs_of(rankings)
    learned = []

    def note(features, blend, pairs):
        learned.append(len(pairs.prompt.unique()))
        return {READING: torch.zeros(features[READING].shape[1])}

    monkeypatch.setattr("trainer.rlhf.doubts.fit_blend", note)
    monkeypatch.setattr("trainer.rlhf.doubts.VOTER_PROMPTS", 6)
    out_of_fold_votes(*alone(features, pairs, 4, 0.1), members=3, seed=0)
    assert len(learned) == 12 and max(learned) <= 6


@pytest.fixture
def voted():
    rankings = planted(1, k=3)[1]
    rankings = [replace(rankings[0], ranks=(1, 2, 2), strength=2.0)]
    pairs = pairs_of(rankings)  # 0 > 1, 0 > 2, 1 = 2
    return rankings, pairs, Votes(torch.tensor([-1.0, 2.0, -3.0]).double(), torch.tensor([0.5, 0.1, 0.2]).double())


def test_it_softens_flips_and_drops_what_the_models_vote_against(voted):
    _, pairs, votes = voted
    assert mend(pairs, votes, "keep") == pairs
    assert mend(pairs, votes, "soft").target.tolist() == pytest.approx([(1 + 1 / (1 + np.e)) / 2, 1.0, 0.5])
    assert mend(pairs, votes, "flip").target.tolist() == [0.0, 1.0, 0.5]
    assert mend(pairs, votes, "drop").weight.tolist() == pytest.approx([0.0, 1 / 3, 1 / 3])


def test_it_lists_doubtful_pairs_by_their_ids(voted):
    rankings, pairs, votes = voted
    (entry,) = doubtful_pairs(rankings, pairs, votes, limit=9)
    assert (entry["ranking"], entry["preferred"], entry["other"], entry["mean"]) == ("0", "0", "1", -1.0)
    section = strengths([(rankings, pairs, votes)], limit=9)
    assert section["pairs"] == 2 and section["share_doubtful"] == 0.5 and section["doubtful"] == [entry]


def test_it_takes_margins_from_annotators_or_votes(voted):
    rankings, pairs, votes = voted
    assert strength_margin(pairs, rankings).tolist() == [2.0, 2.0, 0.0]  # a tie has no first
    assert voting_margin(votes).tolist() == [0.0, 2.0, 0.0]
