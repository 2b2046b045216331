"""The losses against closed forms, enumerations and finite differences."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from math import exp, log

import pytest
import torch

from trainer.rlhf.data import Completion, Ranking
from trainer.rlhf.pairs import has_preference, pairs_of
from trainer.rlhf.reward_loss import (
    info_nce,
    pairwise_loss,
    plackett_luce_log_likelihood,
    plackett_luce_loss,
    spread,
    tied_above,
)


def ranking(*ranks: int, weight: float = 1.0, prompt: str = "p") -> Ranking:
    completions = tuple(Completion(str(place), f"text {place}") for place in range(len(ranks)))
    return Ranking("r", prompt, [{"role": "user", "content": "?"}], completions, ranks, weight=weight)


def scores(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def test_it_is_bradley_terry_for_two():
    loss = pairwise_loss(scores(0.3, 1.1), pairs_of([ranking(1, 2)]))
    assert loss.item() == pytest.approx(log(1 + exp(0.8)))


def test_it_makes_no_pair_of_two_completions_with_the_same_text():
    three = ranking(1, 2, 3)
    twins = replace(three, completions=(*three.completions[:2], Completion("2", three.completions[1].text)))
    pairs = pairs_of([twins, replace(twins, ranks=(2, 1, 1))])
    assert list(zip(pairs.winner.tolist(), pairs.loser.tolist(), strict=True)) == [(0, 1), (0, 2), (4, 3), (5, 3)]
    assert pairs.weight.tolist() == [0.5] * 4
    same = replace(three, completions=three.completions[:1] * 3)
    assert not len(pairs_of([same]).winner) and not has_preference(same) and has_preference(twins)


def test_it_averages_over_the_pairs_of_a_ranking_and_over_rankings():
    values = scores(2.0, 0.0, -1.0, 0.5, 0.0)
    loss = pairwise_loss(values, pairs_of([ranking(1, 2, 3), ranking(2, 1)]))
    first = (log(1 + exp(-2)) + log(1 + exp(-3)) + log(1 + exp(-1))) / 3
    assert loss.item() == pytest.approx((first + log(1 + exp(0.5))) / 2)


def test_it_weighs_annotators():
    values = scores(1.0, 0.0, 1.0, 0.0)
    loss = pairwise_loss(values, pairs_of([ranking(1, 2, weight=3.0), ranking(2, 1, weight=1.0)]))
    assert loss.item() == pytest.approx((3 * log(1 + exp(-1)) + log(1 + exp(1))) / 4)


@pytest.mark.parametrize("ties", ["half", "drop", "rao_kupper", "davidson"])
def test_it_does_not_care_in_which_order_completions_stand(ties):
    values, ranks = [0.4, -1.0, 2.0, 0.1], [2, 1, 2, 4]
    expected = pairwise_loss(scores(*values), pairs_of([ranking(*ranks)], ties=ties), ties=ties).item()
    order = plackett_luce_log_likelihood(scores(*values), ranks).item()
    for turn in permutations(range(4)):
        turned, turned_ranks = [values[i] for i in turn], [ranks[i] for i in turn]
        loss = pairwise_loss(scores(*turned), pairs_of([ranking(*turned_ranks)], ties=ties), ties=ties)
        assert loss.item() == pytest.approx(expected)
        assert plackett_luce_log_likelihood(scores(*turned), turned_ranks).item() == pytest.approx(order)


@pytest.mark.parametrize("ties", ["half", "drop", "rao_kupper", "davidson"])
def test_a_flipped_pair_is_the_pair_the_other_way_round(ties):
    right, wrong = pairs_of([ranking(1, 2)], ties=ties), pairs_of([ranking(2, 1)], ties=ties)
    flipped = wrong._replace(target=1 - wrong.target)
    values = scores(1.3, 0.4)
    expected = pairwise_loss(values, right, ties=ties).item()
    assert pairwise_loss(values, flipped, ties=ties).item() == pytest.approx(expected)


def test_it_asks_the_margin_of_the_side_that_a_flipped_pair_prefers():
    values, margin = scores(0.7, 0.2), torch.tensor([2.0], dtype=torch.float64)
    pairs = pairs_of([ranking(1, 2)])
    loss = pairwise_loss(values, pairs._replace(target=1 - pairs.target), margin=margin)
    loss.backward()
    assert loss.item() == pytest.approx(log(1 + exp(0.5 + 2)))  # -log s(-D - m), D = 0.5
    assert values.grad.tolist() == pytest.approx([1 / (1 + exp(-2.5)), -1 / (1 + exp(-2.5))])


def test_it_drops_ties_or_pulls_them_together():
    values = scores(1.0, 0.0, 0.0)
    dropped = pairwise_loss(values, pairs_of([ranking(1, 1, 2)], ties="drop"), ties="drop")
    assert dropped.item() == pytest.approx((log(1 + exp(-1)) + log(2)) / 2)
    halved = pairwise_loss(values, pairs_of([ranking(1, 1, 2)]))
    tie = 0.5 * (log(1 + exp(-1)) + log(1 + exp(1)))
    assert halved.item() == pytest.approx((tie + log(1 + exp(-1)) + log(2)) / 3)


@pytest.mark.parametrize("ties", ["rao_kupper", "davidson"])
@pytest.mark.parametrize("parameter", [0.2, 1.0])
def test_it_gives_win_tie_and_loss_probabilities_that_sum_to_one(ties, parameter):
    chances = [
        exp(-pairwise_loss(scores(0.7, -0.2), pairs_of([ranking(*ranks)]), ties=ties, tie_parameter=parameter).item())
        for ranks in ((1, 2), (1, 1), (2, 1))
    ]
    assert sum(chances) == pytest.approx(1.0)


def test_it_gives_rao_kupper_and_davidson_by_hand():
    a, b, theta, nu = exp(0.7), exp(-0.2), exp(0.3), exp(0.3)
    win = {"rao_kupper": a / (a + theta * b), "davidson": a / (a + b + nu * (a * b) ** 0.5)}
    for ties, chance in win.items():
        loss = pairwise_loss(scores(0.7, -0.2), pairs_of([ranking(1, 2)]), ties=ties, tie_parameter=0.3)
        assert loss.item() == pytest.approx(-log(chance))


def test_it_puts_the_margin_inside_the_sigmoid():
    pairs = pairs_of([ranking(1, 2)])
    loss = pairwise_loss(scores(1.0, 0.0), pairs, margin=torch.tensor([0.25], dtype=torch.float64))
    assert loss.item() == pytest.approx(log(1 + exp(-0.75)))


def test_it_is_least_at_the_log_odds_of_a_smoothed_label():
    alpha = 0.1
    pairs = pairs_of([ranking(1, 2)], label_smoothing=alpha)
    values = scores(log((1 - alpha) / alpha), 0.0)
    pairwise_loss(values, pairs).backward()
    assert values.grad.tolist() == pytest.approx([0.0, 0.0], abs=1e-12)


def test_it_still_has_a_gradient_where_a_pair_is_badly_wrong():
    values = scores(-40.0, 40.0)
    pairwise_loss(values, pairs_of([ranking(1, 2)])).backward()
    assert values.grad.tolist() == pytest.approx([-1.0, 1.0])


def test_it_centres_scores():
    loss = pairwise_loss(scores(3.0, 3.0), pairs_of([ranking(1, 2)]), centring=0.01)
    assert loss.item() == pytest.approx(log(2) + 0.01 * 36)


def test_it_sums_plackett_luce_over_permutations_to_one():
    values = scores(0.3, -1.2, 2.0, 0.9)
    chances = [plackett_luce_log_likelihood(values, order).exp().item() for order in permutations((1, 2, 3, 4))]
    assert sum(chances) == pytest.approx(1.0)


def test_it_is_plackett_luce_by_hand_and_bradley_terry_for_two():
    a, b, c = exp(0.3), exp(-1.2), exp(2.0)
    found = plackett_luce_log_likelihood(scores(0.3, -1.2, 2.0), (2, 3, 1)).item()
    assert found == pytest.approx(log(c / (a + b + c)) + log(a / (a + b)))
    two = plackett_luce_loss(scores(0.3, 1.1), [(1, 2)], [1.0]).item()
    assert two == pytest.approx(log(1 + exp(0.8)))


@pytest.mark.parametrize("ranks", [(1, 1, 2, 3), (1, 2, 2, 3), (1, 2, 2, 2), (1, 1, 1, 2), (1, 1, 2, 2)])
def test_it_sums_over_the_orders_that_ties_leave_open(ranks):
    values = scores(0.3, -1.2, 2.0, 0.9)
    allowed = [
        order
        for order in permutations((1, 2, 3, 4))
        if all(order[i] < order[j] for i in range(4) for j in range(4) if ranks[i] < ranks[j])
    ]
    expected = sum(plackett_luce_log_likelihood(values, order).exp().item() for order in allowed)
    assert plackett_luce_log_likelihood(values, ranks).exp().item() == pytest.approx(expected)


@pytest.mark.parametrize(("ranks", "tied"), [((1, 1, 1), 0), ((1, 2, 2, 2), 1), ((2, 1, 2, 1, 5, 2), 3)])
def test_it_counts_the_ties_whose_orders_plackett_luce_sums_over(ranks, tied):
    """Those of the last group cost nothing: every order of it is allowed."""
    assert tied_above(ranks) == tied


def test_it_has_right_gradients():
    ranks = ((1, 2, 2, 4), (3, 1, 1, 2))
    rankings = [ranking(*order) for order in ranks]
    values = torch.linspace(-1, 1, 8, dtype=torch.float64).cos().requires_grad_()
    for ties in ("half", "rao_kupper", "davidson"):
        pairs = pairs_of(rankings, ties=ties)
        assert torch.autograd.gradcheck(lambda s, p=pairs, t=ties: pairwise_loss(s, p, ties=t, centring=0.1), values)
    assert torch.autograd.gradcheck(lambda s: plackett_luce_loss(s, ranks, (1.0, 2.0)), values)


def test_it_attracts_views_of_the_same_completion():
    views = torch.eye(2, dtype=torch.float64)
    assert info_nce(views, views, temperature=1.0).item() == pytest.approx(log(1 + exp(-1)))
    assert info_nce(views, views.flip(0), temperature=1.0).item() == pytest.approx(log(1 + exp(1)))


def test_it_measures_spread_by_hand():
    found = spread(torch.tensor([[0.0, 1.0, 3.0]], dtype=torch.float64)).item()
    sigma = [1 / (1 + exp(-gap)) for gap in (1, 3, 2)]
    assert found == pytest.approx(2 / 9 * sum(sigma))
