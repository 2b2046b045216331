"""The probe against scipy, and the choice of layer by cross-validation on data whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from tests.rlhf.planted import planted
from trainer.rlhf.data import Ranking
from trainer.rlhf.pairs import folds_of, pairs_of
from trainer.rlhf.probe import (
    SEARCH_TOLERANCE,
    choose,
    deltas,
    difference_scale,
    fit_probe,
    out_of_fold_deltas,
    pair_accuracy,
)


def test_it_finds_the_minimum_that_scipy_finds():
    features, rankings, _ = planted(40)
    features[:, 3] *= 100.0  # one ridge must suit dimensions of every size
    pairs = pairs_of(rankings)
    difference = (features[pairs.winner] - features[pairs.loser]).double().numpy()
    scaled = difference / np.sqrt((difference**2).mean(0))
    share = (pairs.weight / pairs.weight.sum()).numpy()

    def objective(w):
        return (share * np.logaddexp(0, -scaled @ w)).sum() + 0.05 * w @ w

    expected = minimize(objective, np.zeros(8), method="BFGS", options={"gtol": 1e-9}).x
    found = fit_probe(features, pairs, 0.1) * difference_scale(features, pairs)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)


def test_it_recovers_the_weights_that_ranked():
    features, rankings, weight = planted(3000)
    found = fit_probe(features, pairs_of(rankings), 1e-6)
    np.testing.assert_allclose(found.numpy(), weight, atol=0.1)


def test_it_fits_soft_targets_and_ties_by_hand():
    features = torch.tensor([[1.0], [0.0]])
    (ranking,) = planted(1, k=2)[1]
    for smoothing in (0.1, 0.3):
        pairs = pairs_of([ranking], label_smoothing=smoothing)
        w = fit_probe(features, pairs, 1e-9)
        delta = deltas(features, w, pairs)
        assert delta.item() == pytest.approx(np.log((1 - smoothing) / smoothing), rel=1e-3)


def test_it_gives_the_same_answer_in_chunks(monkeypatch):
    features, rankings, _ = planted(30)
    pairs = pairs_of(rankings)
    whole = fit_probe(features, pairs, 0.1)
    monkeypatch.setattr("trainer.rlhf.probe.CHUNK_PAIRS", 7)
    torch.testing.assert_close(fit_probe(features, pairs, 0.1), whole)


def test_it_never_predicts_a_prompt_it_learned_from():
    features, rankings, _ = planted(30)
    again = [replace(ranking, prompt_id=f"row {number}") for number, ranking in enumerate(rankings)]
    twice = rankings + again  # every prompt has two rankings, under an id of its own each
    pairs = pairs_of(twice)
    folds = folds_of(pairs, folds=5, seed=3)
    once = pairs_of(rankings)
    assert pairs.prompt.tolist() == once.prompt.tolist() * 2 and once.prompt.unique_consecutive().tolist() == [
        *range(30)
    ]
    assert folds.tolist() == folds_of(once, folds=5, seed=3).tolist() * 2
    doubled = torch.cat([features, features])
    predicted = out_of_fold_deltas(doubled, pairs, folds, [0.1])[0.1]
    fold = folds[0]
    alone = fit_probe(doubled, pairs.where(folds != fold), 0.1, tolerance=SEARCH_TOLERANCE)
    outside = pairs.where(folds == fold)
    torch.testing.assert_close(predicted[folds == fold], deltas(doubled, alone, outside))


def test_it_chooses_the_layer_that_carries_the_preference():
    features, rankings, _ = planted(60)
    noise = torch.randn(features.shape, generator=torch.Generator().manual_seed(5))
    choice = choose(
        {("last", 1): noise, ("mean", 2): features, ("mean", 3): features + 3 * noise},
        pairs_of(rankings),
        folds_of(pairs_of(rankings), folds=5, seed=0),
    )
    candidates = choice.candidates
    assert candidates[0].reading == ("mean", 2)
    assert [c.nll for c in candidates] == sorted(c.nll for c in candidates)
    assert next(c for c in candidates if c.layer == 1).accuracy < 0.62 < candidates[0].accuracy
    assert choice.blend[0].reading == ("mean", 2) and ("last", 1) not in {member.reading for member in choice.blend}


def test_it_counts_undecided_scores_half_and_ignores_ties():
    (ranking,) = planted(1, k=3)[1]
    tied = Ranking("r", "p", ranking.prompt, ranking.completions, (1, 1, 2))
    assert pair_accuracy(torch.tensor([1.0, 0.0, 0.0]), pairs_of([tied])) == 0.75


def test_it_says_so_when_there_is_no_pair():
    (ranking,) = planted(1, k=2)[1]
    tied = Ranking("r", "p", ranking.prompt, ranking.completions, (1, 1))
    with pytest.raises(ValueError, match="at least one pair"):
        fit_probe(torch.zeros(2, 3), pairs_of([tied], ties="drop"), 0.1)
