"""The over-optimisation watch: a known curve is fitted, a planted hackable reward is stopped."""

import json
import math

import numpy as np
import pytest
import torch

from tests.rlhf.run_folders import make_run
from trainer.rlhf.folder import RunFolder, StopSignal
from trainer.rlhf.overoptimisation import favourite, fit_gold, is_overoptimised, is_past_peak
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
    assert rising.peak_kl is None or rising.peak_kl > 1e6
    falling_to_rise = fit_gold([0, 1, 2, 4, 9], [0, 1, 1.6, 2.8, 6])  # bent upwards: beta < 0
    assert falling_to_rise.peak_kl is None
    json.dumps(falling_to_rise._asdict(), allow_nan=False)


def test_it_calls_a_rise_with_a_clear_fall_over_optimisation_and_nothing_else():
    rise = [0.1 * step for step in range(8)]
    noise = [0.01, -0.01, 0.0, 0.01]
    assert is_overoptimised(rise, [1.0 + n for n in noise] + [0.5 + n for n in noise], 4)
    assert not is_overoptimised(rise, [1.0 + n for n in noise] + [1.1 + n for n in noise], 4)
    assert not is_overoptimised(rise[::-1], [1.0 + n for n in noise] + [0.5 + n for n in noise], 4)
    assert not is_overoptimised(rise[:7], [1.0] * 3 + [0.0] * 4, 4)


def share_stopped(gold, *, first_kl: float = 0.0, updates: int = 16, noise: float = 0.15, runs: int = 200) -> float:
    """Share of simulated runs that end past a peak, asked after every update as a run asks.

    KL climbs to 9 nats, every step by chance, and is measured to some 0.3 to 0.6 nats; `gold` rises by about 1 over the
    run. A judge's mean over 48 completions has a noise of about 0.2 of that in runs of the default model.
    """
    rng, stopped = np.random.default_rng(1), 0
    for _ in range(runs):
        true = np.linspace(first_kl, 9.0, updates + 1) * np.exp(rng.normal(0.0, 0.15, updates + 1))
        kl = (true + rng.normal(0.0, 0.3, updates + 1) * np.sqrt(np.maximum(true, 0.05) / 3)).tolist()
        judge = (gold(np.sqrt(true)) + rng.normal(0.0, noise, updates + 1)).tolist()
        stopped += any(is_past_peak(kl[:seen], judge[:seen]) for seen in range(1, updates + 2))
    return stopped / runs


def peaked(at: float):
    """Gold that rises by 1 up to d* = `at` and falls beyond: d (alpha - beta log d) with alpha = beta (1 + log d*)."""
    return lambda d: d / at * (1 + math.log(at) - np.log(np.maximum(d, 1e-9)))


@pytest.mark.parametrize("noise", [0.05, 0.15, 0.3])
@pytest.mark.parametrize("gold", [lambda d: d / 3, lambda d: d * d / 9, peaked(6.0), peaked(4.5)])
def test_it_hardly_ever_stops_a_run_whose_gold_still_rises(gold, noise):
    """Runs end at d = 3: a straight line, a bend upwards, and peaks at twice and at one and a half times that."""
    assert share_stopped(gold, noise=noise) < 0.05


def test_it_hardly_ever_stops_a_later_turn_whose_gold_still_rises():
    assert share_stopped(lambda d: d - 2, first_kl=4.0) < 0.05
    assert share_stopped(peaked(6.0), first_kl=4.0, noise=0.3) < 0.05


@pytest.mark.parametrize(("peak", "noise", "share"), [(1.0, 0.3, 0.95), (1.5, 0.15, 0.8), (2.0, 0.05, 0.9)])
def test_it_mostly_stops_a_run_that_has_passed_its_peak(peak, noise, share):
    """At d = 3 the gold of these curves is back at -0.3, 0.6 and 0.9."""
    assert share_stopped(peaked(peak), noise=noise) > share


def test_it_believes_no_fit_of_nine_updates_nor_of_a_judge_that_says_nothing():
    kl = [0.5 * update for update in range(12)]
    gold = [float(peaked(1.0)(math.sqrt(k))) for k in kl]
    assert is_past_peak(kl[:10], gold[:10])
    assert not is_past_peak(kl[:9], gold[:9])
    assert not is_past_peak(kl, [0.3] * 12)
    assert not is_past_peak([0.0] * 12, gold)


def test_the_judges_favourite_is_the_last_of_the_best_three_in_a_row():
    assert favourite([]) is favourite([9.0, 8.0]) is None
    assert favourite([9.0, 0.0, 0.0]) == 2
    assert favourite([0.0, 9.0, 0.0, 1.0, 2.0, 3.0, 0.0]) == 3  # means of three: 3, 10/3, 1, 2, 5/3
    assert favourite([1.0, 1.0, 1.0, 1.0]) == 2


def test_a_judge_that_only_wavers_does_not_favour_the_first_rollouts():
    judges = np.random.default_rng(1).normal(size=(2000, 16))
    chosen = np.bincount([favourite(list(judge)) for judge in judges], minlength=16) / 2000
    assert chosen[:2].sum() == 0
    assert chosen.max() < 0.11  # 14 candidates, the outer ones somewhat freer of their neighbours


def test_a_planted_hackable_reward_is_stopped_and_the_judges_favourite_is_published(tmp_path, tiny_base, monkeypatch):
    """The score pays one letter; the judge, as people would, dislikes more of it."""
    ppo = {
        "updates": 40,
        "prompts": 4,
        "samples": 8,
        "learning_rate": 0.03,
        "kl": {"coef": 0.0, "stop": None, "rise": None},
    }
    folder = make_run(tmp_path, tiny_base, ppo=ppo | {"judge_patience": 4, "has_peak_stop": False})
    from trainer.rlhf import ppo as module

    observe = module.observe_rollout

    def with_judge(job, rollout):
        dislike = [-float("e" in sample.text) for sample in rollout.samples]
        return observe(job, rollout)._replace(judge=torch.tensor(dislike))

    monkeypatch.setattr(module, "observe_rollout", with_judge)
    run_ppo(folder, StopSignal(), reward="tests.rlhf.rewards:has_e")
    manifest = json.loads((folder.path / "ppo" / "policy" / "manifest.json").read_text())
    assert manifest["stopped_because"] == "judge"
    history = manifest["history"]
    assert manifest["updates"] < len(history["judge"]) - 4 < 36
    assert history["scores"][-1] > history["scores"][0] + 0.15
    assert manifest["kl"] == history["kl"][manifest["updates"]] < history["kl"][-1]  # from before the fall
    assert history["judge"][manifest["updates"]] > np.mean(history["judge"][-4:])


def test_a_reward_that_is_hacked_after_it_helped_is_stopped_past_the_judges_peak(tmp_path, tiny_base, monkeypatch):
    """The score pays +1 for every e; the judge likes the first e of a completion and dislikes each one after it."""
    ppo = {
        "updates": 40,
        "prompts": 4,
        "samples": 12,
        "learning_rate": 0.01,
        "kl": {"coef": 0.0, "stop": None, "rise": None},
        "judge_patience": 21,
    }
    from trainer.rlhf import ppo as module

    observe = module.observe_rollout

    def with_judge(job, rollout):
        counts = torch.tensor([float(sample.text.count("e")) for sample in rollout.samples])
        return observe(job, rollout)._replace(judge=counts.clamp(max=1) - (counts - 1).clamp(min=0))

    monkeypatch.setattr(module, "observe_rollout", with_judge)
    manifests = []
    for has_peak_stop in (True, False):
        folder = make_run(tmp_path / str(has_peak_stop), tiny_base, ppo=ppo | {"has_peak_stop": has_peak_stop})
        run_ppo(folder, StopSignal(), reward="tests.rlhf.rewards:count_of_e")
        manifests.append(json.loads((folder.path / "ppo" / "policy" / "manifest.json").read_text()))
    stopped, whole = manifests
    assert stopped["stopped_because"] == "peak"
    assert RunFolder(tmp_path / "True").log("ppo").records()[-1]["message"].startswith("stopped past the peak")
    judge, kept = stopped["history"]["judge"], stopped["updates"]
    assert 9 <= len(judge) < 40 == whole["updates"]
    assert stopped["history"] == {name: values[: len(judge)] for name, values in whole["history"].items()}
    assert stopped["history"]["kl"][kept] == stopped["kl"]
    assert judge[kept] > max(judge[0], judge[-1], np.mean(whole["history"]["judge"][-3:]))
