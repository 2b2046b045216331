"""Ensemble selection: what is added must help pairs that the probes have not seen, and the sum is one linear head."""

from __future__ import annotations

import pytest
import torch
from scipy.optimize import minimize_scalar

from tests.rlhf.planted import planted
from trainer.rlhf.blend import scaled_nll, select_blend
from trainer.rlhf.pairs import Pairs, folds_of, pairs_of
from trainer.rlhf.probe import Member, blend_deltas, choose, deltas, fit_blend, fit_probe


def decided(count: int) -> Pairs:
    """Pairs whose first is the winner, each of weight 1."""
    numbers = torch.arange(count)
    ones = torch.ones(count).double()
    return Pairs(2 * numbers, 2 * numbers + 1, target=ones, weight=ones, ranking=numbers, prompt=numbers)


def noisy(count: int, noise: float, seed: int) -> torch.Tensor:
    return 1 + noise * torch.randn(count, generator=torch.Generator().manual_seed(seed)).double()


def test_it_fits_the_scale_that_scipy_finds():
    delta = noisy(400, 2.0, 1)
    scale, nll = scaled_nll(delta[None], decided(400))
    found = minimize_scalar(lambda s: float(torch.nn.functional.softplus(-s * delta).mean()), bounds=(0.05, 20))
    assert float(scale) == pytest.approx(found.x, rel=1e-3)
    assert float(nll) == pytest.approx(found.fun, rel=1e-6)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_it_finds_the_scale_whatever_the_unit(size):
    delta = noisy(400, 2.0, 1)
    expected = scaled_nll(delta[None], decided(400))[1]
    torch.testing.assert_close(scaled_nll(size * delta[None], decided(400))[1], expected)


def test_it_keeps_the_scale_finite_where_all_are_right_or_nothing_differs():
    scale, nll = scaled_nll(torch.stack([torch.full((50,), 3.0), torch.zeros(50)]).double(), decided(50))
    assert torch.isfinite(scale).all()
    assert nll.tolist() == pytest.approx([0.0, 0.6931], abs=1e-4)


def test_it_leaves_a_head_where_every_setting_predicts_the_wrong_way():
    (share,) = select_blend(-noisy(200, 0.5, 1)[None], decided(200), most=4)
    assert share.factor == pytest.approx(0.01, rel=0.2)


def test_it_adds_what_errs_elsewhere_and_leaves_noise_out():
    first, second = noisy(600, 1.5, 1), noisy(600, 1.5, 2)  # two views whose errors are independent
    chance = 3 * torch.randn(600, generator=torch.Generator().manual_seed(3)).double()
    shares = select_blend(torch.stack([chance, first, second]), decided(600), most=4)
    assert {share.setting for share in shares} == {1, 2}
    assert shares[0].factor == pytest.approx(shares[1].factor, rel=0.6)


def test_it_takes_no_more_settings_than_it_may():
    views = torch.stack([noisy(300, 2.0, seed) for seed in range(6)])
    assert len(select_blend(views, decided(300), most=6)) > 3
    assert len(select_blend(views, decided(300), most=2)) == 2
    (alone,) = select_blend(views, decided(300), most=1)
    assert alone.setting == int(scaled_nll(views, decided(300))[1].argmin())


def test_it_fits_a_blend_as_the_sum_of_its_probes():
    features, rankings, _ = planted(40)
    other = features.flip(1) + 1
    pairs = pairs_of(rankings)
    blend = [Member("mean", 1, 0.1, 0.5), Member("last", 2, 1.0, 2.0), Member("mean", 1, 3.0, 1.0)]
    weights = fit_blend({("mean", 1): features, ("last", 2): other}, blend, pairs)
    assert list(weights) == [("mean", 1), ("last", 2)]
    expected = 0.5 * fit_probe(features, pairs, 0.1) + fit_probe(features, pairs, 3.0)
    torch.testing.assert_close(weights["mean", 1], expected)
    total = deltas(features, expected, pairs) + 2 * deltas(other, fit_probe(other, pairs, 1.0), pairs)
    torch.testing.assert_close(blend_deltas({("mean", 1): features, ("last", 2): other}, weights, pairs), total)


def test_a_blend_of_two_views_tells_more_held_out_pairs_apart_than_the_better_one():
    features, rankings, _ = planted(240, k=2)
    generator = torch.Generator().manual_seed(5)
    views = {
        (pooling, 1): features + 1.5 * torch.randn(features.shape, generator=generator) for pooling in ("last", "mean")
    }
    pairs = pairs_of(rankings)
    is_held_out = folds_of(pairs, folds=2, seed=1) == 0
    inside, outside = pairs.where(~is_held_out), pairs.where(is_held_out)
    right = {}
    for most in (1, 4):
        choice = choose(views, inside, folds_of(inside, folds=4, seed=2), most=most)
        right[most] = float((blend_deltas(views, fit_blend(views, choice.blend, inside), outside) > 0).double().mean())
    assert right[4] > right[1]
