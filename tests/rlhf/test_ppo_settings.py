"""Settings of a PPO run that are off by default: what each does to a whole update or run."""

import pytest
import torch

from tests.rlhf.run_folders import make_run, run
from trainer.rlhf import ppo
from trainer.rlhf.ppo import advantages_of, look
from trainer.rlhf.ppo_job import Clock, prepare

HAS_E = "tests.rlhf.rewards:has_e"


def test_the_policys_rate_rises_over_the_warm_up(tmp_path, tiny_base, monkeypatch):
    """With 3 warm-up updates: a quarter, a half, three quarters and all of the rate."""
    rates, real = [], ppo.policy_step

    def watched(job, *given):
        step = real(job, *given)
        rates.append(job.optimiser.param_groups[0]["lr"])
        return step

    monkeypatch.setattr(ppo, "policy_step", watched)
    run(make_run(tmp_path, tiny_base, ppo={"updates": 5, "minibatches": 1, "warmup_updates": 3}))
    assert rates == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01])


def test_an_adaptive_coefficient_moves_by_the_share_of_its_horizon(tmp_path, tiny_base):
    """beta (1 + clip(KL / 0.05 - 1, +-0.2) n / 20) with the 8 completions of an update."""
    kl = {"coef": 0.1, "target": 0.05, "horizon": 20, "stop": None, "rise": None}
    found = run(make_run(tmp_path, tiny_base, ppo={"updates": 5, "kl": kl}))
    coef = 0.1
    for update in found:
        assert update["objective/kl_coef"] == pytest.approx(coef)
        coef *= 1 + min(max(update["objective/kl"] / 0.05 - 1, -0.2), 0.2) * 8 / 20
    assert found[-1]["objective/kl_coef"] != pytest.approx(0.1)


def test_advantages_are_cut_after_they_were_whitened_and_returns_are_not(tmp_path, tiny_base):
    found = {}
    for clip in (None, 0.5):
        ppo = {"prompts": 6, "samples": 8, "advantage": {"clip": clip}}
        folder = make_run(tmp_path / str(clip), tiny_base, ppo=ppo)
        job = prepare(folder, folder.config, HAS_E)
        rollout, observation, _ = look(job, 1, Clock())
        rewards = torch.arange(rollout.mask.numel()).view_as(rollout.mask).float() * rollout.mask
        _, found[clip] = advantages_of(job, rollout, observation, rewards)
    assert found[None].advantages.abs().max() > 1
    assert torch.equal(found[0.5].advantages, found[None].advantages.clamp(-0.5, 0.5))
    assert torch.equal(found[0.5].returns, found[None].returns)


@pytest.mark.parametrize("truncation", ["terminal", "bootstrap"])
def test_the_value_after_a_cut_completion_counts_only_where_told_to_bootstrap(tmp_path, tiny_base, truncation):
    """The last token's advantage: r - V(s_T) after a stop, and after a cut V(s_T+1) more by `bootstrap`."""
    advantage = {"truncation": truncation, "is_whitened": False}
    folder = make_run(tmp_path, tiny_base, ppo={"prompts": 6, "samples": 8, "advantage": advantage})
    job = prepare(folder, folder.config, HAS_E)
    with torch.no_grad():
        job.critic.head.weight.normal_(generator=torch.Generator().manual_seed(1))
    rollout, observation, _ = look(job, 1, Clock())
    rewards = rollout.mask.float()
    _, estimated = advantages_of(job, rollout, observation, rewards)
    with torch.no_grad():
        values = job.critic.head(observation.features)
    assert not rollout.is_stopped.all()
    for row, length in enumerate(rollout.mask.sum(1).tolist()):
        expected = 1 - values[row, length - 1]
        if truncation == "bootstrap" and not rollout.is_stopped[row]:
            expected = expected + values[row, length]
        torch.testing.assert_close(estimated.advantages[row, length - 1], expected, atol=1e-5, rtol=1e-5)
