"""The over-optimisation watch: a known curve is fitted, a planted hackable reward is stopped."""

import json
import math

import pytest
import torch

from tests.rlhf.run_folders import make_run
from trainer.rlhf.folder import StopSignal
from trainer.rlhf.overoptimisation import fit_gold, is_overoptimised
from trainer.rlhf.ppo import run_ppo


def test_it_finds_alpha_beta_and_the_peak_of_a_curve_it_was_given():
    alpha, beta = 1.2, 0.6
    kl = [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0]
    gold = [3.0 + (math.sqrt(k) * (alpha - beta * math.log(math.sqrt(k))) if k else 0.0) for k in kl]
    fit = fit_gold(kl, gold)
    assert (fit.alpha, fit.beta) == (pytest.approx(alpha), pytest.approx(beta))
    assert fit.peak_kl == pytest.approx(math.exp(2 * (alpha / beta - 1)))


def test_it_finds_them_too_where_the_parent_stood_far_from_the_reference():
    """A later turn of the loop: the first rollout's gold is not that of the reference, which no rollout shows."""
    alpha, beta = 1.2, 0.6
    kl = [4.5, 5.0, 6.0, 7.0, 8.5]
    gold = [3.0 + math.sqrt(k) * (alpha - beta * math.log(math.sqrt(k))) for k in kl]
    fit = fit_gold(kl, gold)
    assert (fit.alpha, fit.beta) == (pytest.approx(alpha), pytest.approx(beta))


def test_it_does_not_fit_three_points_and_sees_no_peak_in_a_straight_rise():
    assert fit_gold([0, 1, 2], [0, 1, 2]) is None
    rising = fit_gold([0, 1, 2, 4, 9], [0, 1, math.sqrt(2), 2, 3])
    assert rising.alpha == pytest.approx(1.0)
    assert rising.peak_kl > 1e6


def test_it_calls_a_rise_with_a_clear_fall_over_optimisation_and_nothing_else():
    rise = [0.1 * step for step in range(8)]
    noise = [0.01, -0.01, 0.0, 0.01]
    assert is_overoptimised(rise, [1.0 + n for n in noise] + [0.5 + n for n in noise], 4)
    assert not is_overoptimised(rise, [1.0 + n for n in noise] + [1.1 + n for n in noise], 4)
    assert not is_overoptimised(rise[::-1], [1.0 + n for n in noise] + [0.5 + n for n in noise], 4)
    assert not is_overoptimised(rise[:7], [1.0] * 3 + [0.0] * 4, 4)


def test_a_planted_hackable_reward_is_stopped_and_the_judges_favourite_is_published(tmp_path, tiny_base, monkeypatch):
    """The score pays one letter; the judge, as people would, dislikes more of it."""
    ppo = {
        "updates": 40,
        "prompts": 4,
        "samples": 8,
        "learning_rate": 0.03,
        "kl": {"coef": 0.0, "stop": None, "rise": None},
    }
    folder = make_run(tmp_path, tiny_base, ppo=ppo | {"judge_patience": 4})
    from trainer.rlhf import ppo as module

    observe = module.observe_rollout

    def with_judge(job, rollout):
        dislike = [-float("e" in sample.text) for sample in rollout.samples]
        return observe(job, rollout)._replace(judge=torch.tensor(dislike))

    monkeypatch.setattr(module, "observe_rollout", with_judge)
    run_ppo(folder, StopSignal(), reward="tests.rlhf.rewards:has_e")
    manifest = json.loads((folder.path / "ppo" / "policy" / "manifest.json").read_text())
    assert manifest["stopped_because"] == "judge"
    assert manifest["updates"] < 40
    history = manifest["history"]
    assert history["scores"][-1] > history["scores"][0] + 0.15
    assert manifest["kl"] < max(history["kl"]) / 2  # that of the policy from before the fall
