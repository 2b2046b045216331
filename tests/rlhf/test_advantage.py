"""Running moments, rewards, GAE and whitening against closed forms and numpy."""

import numpy as np
import pytest
import torch

from trainer.rlhf.advantage import (
    Moments,
    centred_terms,
    explained_variance,
    gae,
    normalised,
    token_rewards,
    whitened,
)

LENGTHS = [4, 1, 3]
MASK = torch.arange(4) < torch.tensor(LENGTHS)[:, None]


def random_case(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rewards = torch.randn(3, 4, generator=generator, dtype=torch.float64) * MASK
    return rewards, torch.randn(3, 5, generator=generator, dtype=torch.float64)


def test_it_reduces_to_the_td_error_when_lambda_is_zero():
    rewards, values = random_case()
    found = gae(rewards, values, MASK, gamma=0.9, lam=0.0)
    for row, length in enumerate(LENGTHS):
        for t in range(length):
            following = values[row, t + 1] if t + 1 < length else 0.0
            expected = rewards[row, t] + 0.9 * following - values[row, t]
            assert found.advantages[row, t] == pytest.approx(float(expected))


def test_it_is_reward_to_go_minus_value_when_gamma_and_lambda_are_one():
    rewards, values = random_case(1)
    found = gae(rewards, values, MASK, gamma=1.0, lam=1.0)
    to_go = rewards.flip(1).cumsum(1).flip(1)
    torch.testing.assert_close(found.advantages, torch.where(MASK, to_go - values[:, :4], 0.0))
    torch.testing.assert_close(found.returns, torch.where(MASK, to_go, 0.0))


def test_it_decays_a_terminal_reward_by_gamma_lambda_with_a_zero_critic():
    rewards = torch.tensor([[0.0, 0.0, 0.0, 2.0]])
    found = gae(rewards, torch.zeros(1, 5), torch.ones(1, 4, dtype=torch.bool), gamma=0.5, lam=0.8)
    torch.testing.assert_close(found.advantages, torch.tensor([[2 * 0.4**3, 2 * 0.4**2, 2 * 0.4, 2.0]]))


def test_it_gives_no_advantage_where_the_critic_is_perfect():
    rewards, _ = random_case(2)
    to_go = rewards.flip(1).cumsum(1).flip(1)
    values = torch.cat([to_go, torch.zeros(3, 1, dtype=torch.float64)], dim=1)
    found = gae(rewards, values, MASK, gamma=1.0, lam=0.7)
    torch.testing.assert_close(found.advantages, torch.zeros_like(rewards), atol=1e-12, rtol=0)


def test_it_ignores_whatever_lies_in_the_padding_and_how_much_of_it_there_is():
    rewards, values = random_case(3)
    clean = gae(rewards, values, MASK, gamma=0.99, lam=0.95)
    noisy_values = values.clone()
    noisy_values[1, 2:], noisy_values[2, 4:] = float("inf"), float("nan")
    noisy = gae(torch.where(MASK, rewards, 7.0), noisy_values, MASK, gamma=0.99, lam=0.95)
    torch.testing.assert_close(noisy.advantages, clean.advantages)
    pad = torch.nn.functional.pad
    wide = gae(pad(rewards, (0, 3)), pad(values, (0, 3), value=5.0), pad(MASK, (0, 3)), gamma=0.99, lam=0.95)
    torch.testing.assert_close(wide.advantages[:, :4], clean.advantages)


def test_it_uses_the_value_after_a_cut_completion_only_when_told_to_bootstrap():
    rewards = torch.zeros(2, 2)
    values = torch.tensor([[0.0, 0.0, 4.0], [0.0, 0.0, 4.0]])
    mask = torch.ones(2, 2, dtype=torch.bool)
    found = gae(rewards, values, mask, gamma=0.5, lam=1.0, is_bootstrapped=torch.tensor([True, False]))
    torch.testing.assert_close(found.advantages, torch.tensor([[1.0, 2.0], [0.0, 0.0]]))


def test_it_pays_the_kl_on_every_token_and_the_score_on_the_last_real_one():
    kl = torch.tensor([[1.0, 2.0, 9.0], [3.0, 9.0, 9.0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    found = token_rewards(kl, torch.tensor([10.0, -5.0]), mask, kl_coef=0.1)
    torch.testing.assert_close(found, torch.tensor([[-0.1, 9.8, 0.0], [-5.3, 0.0, 0.0]]))


def test_it_pays_each_token_its_term_and_each_completion_its_score():
    terms = torch.tensor([[4.0, 0.0, 99.0], [7.0, 99.0, 99.0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    centred = centred_terms(terms, mask, std=2.0)
    torch.testing.assert_close(centred, torch.tensor([[1.0, -1.0, 0.0], [0.0, 0.0, 0.0]]))
    found = token_rewards(torch.zeros(2, 3), torch.tensor([3.0, -5.0]), mask, kl_coef=0.1, terms=centred)
    torch.testing.assert_close(found, torch.tensor([[2.0, 1.0, 0.0], [-5.0, 0.0, 0.0]]))


def test_it_keeps_the_moments_numpy_finds_over_the_whole_stream():
    draw = np.random.default_rng(1)
    stream = [draw.normal(3, 2, size) for size in (1, 7, 32, 5)]
    moments = Moments()
    for batch in stream:
        moments = moments.updated(torch.tensor(batch))
    everything = np.concatenate(stream)
    assert moments.mean == pytest.approx(everything.mean())
    assert moments.std == pytest.approx(everything.std())


def test_it_is_safe_on_a_first_batch_of_one_and_on_a_constant_stream():
    one = Moments().updated(torch.tensor([4.0]))
    assert normalised(torch.tensor([4.0]), one, 5.0).tolist() == [0.0]
    assert one.updated(torch.tensor([4.0, 4.0])).std == 1.0


def test_it_clips_normalised_scores_on_both_sides():
    moments = Moments().updated(torch.tensor([0.0, 2.0]))  # mean 1, std 1
    assert normalised(torch.tensor([1.5, 90.0, -90.0]), moments, 0.8).tolist() == pytest.approx([0.5, 0.8, -0.8])
    assert normalised(torch.tensor([90.0]), moments, None).tolist() == [89.0]


def test_it_whitens_over_real_tokens_only():
    values, _ = random_case(4)
    found = whitened(torch.where(MASK, values, 1e6), MASK)
    expected = (values[MASK].numpy() - values[MASK].numpy().mean()) / values[MASK].numpy().std()
    np.testing.assert_allclose(found[MASK].numpy(), expected, rtol=1e-6)
    assert not found[~MASK].any()


def test_it_explains_all_of_itself_and_nothing_of_a_constant():
    target, _ = random_case(5)
    assert explained_variance(target, target, MASK) == pytest.approx(1.0)
    assert explained_variance(torch.zeros_like(target), target, MASK) == pytest.approx(0.0)
    assert explained_variance(target, torch.ones_like(target), MASK) == 0.0


def test_a_row_without_a_token_gives_zeros_and_no_nan():
    mask = torch.tensor([[True, True, True], [False, False, False], [True, False, False]])
    garbage = torch.full((3, 3), float("nan"))
    kl, values = torch.where(mask, 1.0, garbage), torch.where(torch.nn.functional.pad(mask, (1, 0)), 0.5, float("inf"))
    values[:, 0] = 0.5
    score = torch.tensor([1.0, 2.0, 3.0])
    rewards = token_rewards(kl, score, mask, kl_coef=0.1)
    terms = centred_terms(kl, mask, std=2.0)
    dense = token_rewards(kl, score, mask, kl_coef=0.1, terms=terms)
    found = gae(rewards, values, mask, gamma=0.9, lam=0.9, is_bootstrapped=torch.tensor([False, True, False]))
    white = whitened(torch.where(mask, found.advantages, garbage), mask)
    for tensor in (rewards, terms, dense, *found, white):
        assert tensor.isfinite().all()
        assert not tensor[~mask].any()
    without = gae(rewards[::2], values[::2], mask[::2], gamma=0.9, lam=0.9)
    assert torch.equal(found.advantages[::2], without.advantages)
    torch.testing.assert_close(white[::2], whitened(without.advantages, mask[::2]))
    assert explained_variance(values[:, :-1], found.returns, mask) == pytest.approx(
        explained_variance(values[::2, :-1], without.returns, mask[::2])
    )
