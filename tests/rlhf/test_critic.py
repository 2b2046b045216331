"""The critic: its values do not know of padding or packing, its gradient not of micro-batches; where it starts."""

import pytest
import torch

from tests.rlhf.run_folders import make_run, with_reward_model
from trainer.rlhf import ppo
from trainer.rlhf.critic import critic_step, rollout_values, standardise, start_from_reward, value_loss
from trainer.rlhf.experience import Rollout, layouts
from trainer.rlhf.ppo import look, observe_rollout, rewards_of, sample_prompts, warm_up_critic
from trainer.rlhf.ppo_job import Clock, Job, Progress, prepare
from trainer.rlhf.processes import ALONE
from trainer.rlhf.reward_head import Reading, RewardHead
from trainer.rlhf.trunk import hidden_states

KINDS = ("head", "adapter", "full")


@pytest.fixture(params=["tiny_base", "tiny_gpt2"])
def base(request):
    return request.getfixturevalue(request.param)


def job_with(folder, base, kind: str) -> Job:
    """A critic whose values differ from state to state: heads start at zero and fresh adapters change nothing."""
    run = make_run(folder, base, ppo={"prompts": 4, "samples": 3, "critic": {"kind": kind}})
    job = prepare(run, run.config, "tests.rlhf.rewards:has_e")
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in job.critic.parameters.items():
            if name.startswith("head.") or "lora_" in name:
                parameter.normal_(std=0.3, generator=generator)
    return job


@torch.no_grad()
def values_alone(job: Job, rollout: Rollout, row: int) -> torch.Tensor:
    """V of each state of one completion: one row, no padding, no mask of ours."""
    group = rollout.groups[row // rollout.samples_per_prompt]
    ids = torch.tensor([group.prompt_ids + rollout.samples[row].token_ids])
    critic, layer = job.critic, job.critic_layer
    if critic.trunk is None:
        job.base.use_adapter(None)
    policy = critic.trunk.activate() if critic.trunk else job.base
    layer = policy.model.config.num_hidden_layers if layer is None else layer
    states = hidden_states(policy.model, (layer,), input_ids=ids)[layer]
    return critic.head(states)[0, len(group.prompt_ids) - 1 :]


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_those_of_each_completion_alone(tmp_path, base, kind):
    job = job_with(tmp_path, base, kind)
    rollout = sample_prompts(job, 1)
    lengths = [len(sample.token_ids) for sample in rollout.samples]
    assert len({group.tokens for group in rollout.groups}) > 1, "all of one length: no padding to be invariant to"
    features = observe_rollout(job, rollout).features
    for max_tokens in (40, 10_000):
        values = rollout_values(job.critic, rollout, features, pad_id=job.pad_id, max_tokens=max_tokens)
        for row, length in enumerate(lengths):
            torch.testing.assert_close(values[row, : length + 1], values_alone(job, rollout, row), atol=1e-4, rtol=1e-4)


def gradient(job: Job, rollout: Rollout, features: torch.Tensor | None, max_tokens: int) -> torch.Tensor:
    """The critic's on a whole rollout, before its step."""
    still = job.critic._replace(optimiser=torch.optim.SGD(job.critic.parameters.values(), lr=0.0))
    generator = torch.Generator().manual_seed(2)
    returns, old = torch.randn(2, *rollout.tokens.shape, generator=generator)
    critic_step(
        still,
        rollout,
        layouts(rollout, range(len(rollout.groups)), pad_id=job.pad_id, max_tokens=max_tokens),
        features=features,
        old_values=old,
        returns=returns,
        tokens=float(rollout.mask.sum()),
        clip=0.2,
        max_grad_norm=1e9,
        processes=ALONE,
    )
    return torch.cat([parameter.grad.flatten().clone() for parameter in job.critic.parameters.values()])


@pytest.mark.parametrize("kind", KINDS)
def test_micro_batches_change_no_gradient(tmp_path, tiny_base, kind):
    job = job_with(tmp_path, tiny_base, kind)
    rollout = sample_prompts(job, 1)
    features = observe_rollout(job, rollout).features
    whole = gradient(job, rollout, features, 10_000)
    torch.testing.assert_close(gradient(job, rollout, features, 40), whole, atol=1e-6, rtol=1e-4)
    assert whole.abs().max() > 0


def test_the_value_gradient_agrees_with_finite_differences():
    generator = torch.Generator().manual_seed(3)
    old, returns = torch.randn(2, 9, generator=generator, dtype=torch.float64)
    values = (old + 0.4 * torch.randn(9, generator=generator, dtype=torch.float64)).requires_grad_()
    assert 0 < int(value_loss(values, old, returns, 0.2).clipped) < 9, "both branches are differentiated"
    assert torch.autograd.gradcheck(lambda found: value_loss(found, old, returns, 0.2).loss, values)


def test_it_starts_as_the_normalised_score_of_what_was_read_so_far(tmp_path, tiny_base):
    """V = (w . h + b - mean) / std for every state, whatever the moments its head standardises by."""
    job = job_with(tmp_path, tiny_base, "head")
    rollout = sample_prompts(job, 1)
    features = observe_rollout(job, rollout).features
    reward = RewardHead((Reading("last", 1),), torch.linspace(-1, 1, 32)[None], bias=0.5)
    standardise(job.critic.head, features[:, :-1], rollout.mask, ALONE)
    start_from_reward(job.critic.head, reward, mean=2.0, std=4.0)
    expected = (features @ reward.weight[0] + 0.5 - 2.0) / 4.0
    torch.testing.assert_close(job.critic.head(features), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("is_normalised", [True, False])
def test_it_starts_in_the_units_that_the_policy_is_paid_in(tmp_path, tiny_base, is_normalised):
    settings = {"prompts": 4, "samples": 3, "score": {"is_normalised": is_normalised}, "critic": {"pretrain_steps": 0}}
    folder = make_run(tmp_path, tiny_base, ppo=settings)
    with_reward_model(folder, tiny_base, pooling="last")
    job, progress = prepare(folder, folder.config, None), Progress()
    rollout, observation, measured = seen = look(job, 1, Clock())
    rewards = rewards_of(job, progress, seen)
    warm_up_critic(job, progress, rollout, observation, rewards, None)
    ends = job.critic.head(observation.features)[torch.arange(12), rollout.mask.sum(1)]
    mean, std = (progress.moments.mean, progress.moments.std) if is_normalised else (0.0, 1.0)
    torch.testing.assert_close(ends, (measured.scores - mean) / std, atol=1e-4, rtol=1e-4)


def test_it_is_pre_trained_on_rewards_to_go_under_the_runs_discount(tmp_path, tiny_base, monkeypatch):
    folder = make_run(tmp_path, tiny_base, ppo={"advantage": {"gamma": 0.5}})
    job, learned = prepare(folder, folder.config, "tests.rlhf.rewards:has_e"), []
    monkeypatch.setattr(ppo, "pretrain_critic", lambda *_, returns, **__: learned.append(returns) or (0, 0.0))
    rollout, observation, _ = look(job, 1, Clock())
    warm_up_critic(job, Progress(), rollout, observation, rollout.mask.float(), None)
    left = rollout.mask.flip(1).cumsum(1).flip(1)  # of n tokens left, each paid 1: 1 + 1/2 + 1/4 ... = 2 - 2^(1 - n)
    torch.testing.assert_close(learned[0], torch.where(rollout.mask, 2 - 2.0 ** (1 - left), 0.0))


@pytest.mark.parametrize(("kind", "rate"), [("head", 3e-3), ("adapter", 2e-4), ("full", 2e-5)])
def test_each_kind_has_a_learning_rate_of_its_own_unless_one_is_set(tmp_path, tiny_base, kind, rate):
    assert job_with(tmp_path / "own", tiny_base, kind).critic.optimiser.param_groups[0]["lr"] == rate
    run = make_run(tmp_path / "set", tiny_base, ppo={"critic": {"kind": kind, "learning_rate": 0.5}})
    set_to = prepare(run, run.config, "tests.rlhf.rewards:has_e").critic.optimiser
    assert set_to.param_groups[0]["lr"] == 0.5
