"""The critic: its values do not know of padding or packing, its gradient not of micro-batches; where it starts."""

import json
import statistics

import pytest
import torch

from tests.rlhf.run_folders import make_run, with_reward_model
from trainer.rlhf import ppo
from trainer.rlhf.advantage import Moments
from trainer.rlhf.critic import critic_step, rollout_values, standardise, start_from_reward, value_loss
from trainer.rlhf.data import read_prompts
from trainer.rlhf.encoding import encode_group
from trainer.rlhf.experience import Rollout, layouts
from trainer.rlhf.folder import RunFolder, StopSignal
from trainer.rlhf.packing import Group
from trainer.rlhf.policy import load_policy
from trainer.rlhf.ppo import look, observe_rollout, rewards_of, sample_prompts, warm_up_critic
from trainer.rlhf.ppo_job import Clock, Job, Progress, prepare
from trainer.rlhf.processes import ALONE
from trainer.rlhf.reward_head import Reading, RewardHead
from trainer.rlhf.reward_model import RewardModel, save_reward_model
from trainer.rlhf.rollout import Sample
from trainer.rlhf.score import run_score
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
    critic, layer = job.critic, job.critic.layer
    if critic.trunk is None:
        job.base.use_adapter(None)
    policy = critic.trunk.activate() if critic.trunk else job.base
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


TEXTS = ["rain", "Say three things", "no", "things about rain and rain"]


def scored(folder: RunFolder) -> list[dict]:
    """What the `score` stage says of TEXTS as completions of each prompt: score, and the term of every token."""
    completions, out = folder.path / "completions.jsonl", folder.path / "scores.jsonl"
    lines = [json.loads(line) for line in (folder.path / "prompts.jsonl").read_text().splitlines()]
    texts = [{"id": str(place), "text": text} for place, text in enumerate(TEXTS)]
    completions.write_text(
        "".join(json.dumps({"prompt": line["messages"], "completions": texts}) + "\n" for line in lines)
    )
    run_score(folder, StopSignal(), completions=completions, out=out)
    return [found for line in out.read_text().splitlines() for found in json.loads(line)["completions"]]


def rollout_of_texts(job: Job, folder: RunFolder) -> Rollout:
    """A rollout that wrote TEXTS for each prompt."""
    prompts = read_prompts(folder.path / "prompts.jsonl")
    limits = {"max_prompt_tokens": 512, "max_completion_tokens": job.config.max_completion_tokens}
    groups: list[Group] = [encode_group(job.base.tokenizer, prompt.messages, TEXTS, **limits) for prompt in prompts]
    rows = [ids for group in groups for ids in group.completions]
    tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in rows], batch_first=True)
    mask = torch.arange(tokens.shape[1]) < torch.tensor([len(ids) for ids in rows])[:, None]
    samples = [Sample("", ids, "stop", []) for ids in rows]
    return Rollout(prompts, groups, samples, tokens, mask, torch.zeros(tokens.shape), mask.any(1))


def warmed_up(job: Job, rollout: Rollout, moments: Moments) -> torch.Tensor:
    """V of each state after the warm-up; with `pretrain_steps` 0, what the critic starts as."""
    observation = observe_rollout(job, rollout)
    warm_up_critic(job, Progress(moments=moments), rollout, observation, rollout.mask.float(), None)
    return rollout_values(job.critic, rollout, observation.features, pad_id=job.pad_id, max_tokens=60)


STARTS = [("head", "probe"), ("adapter", "probe"), ("adapter", "lora"), ("full", "probe"), ("full", "full")]


@pytest.mark.parametrize(("kind", "reward"), STARTS)
def test_its_first_values_are_the_normalised_scores_that_the_score_stage_gives_each_prefix(
    tmp_path, base, kind, reward
):
    folder = make_run(tmp_path, base, ppo={"critic": {"kind": kind, "pretrain_steps": 0}}, max_completion_tokens=12)
    with_reward_model(folder, base, pooling="last", kind=reward)
    told = scored(folder)
    scores = [each["score"] for each in told]
    mean, std = statistics.fmean(scores), statistics.pstdev(scores)
    job = prepare(folder, folder.config, None)
    rollout = rollout_of_texts(job, folder)
    values = warmed_up(job, rollout, Moments().updated(torch.tensor(scores)))
    lengths = rollout.mask.sum(1)
    ends = values[torch.arange(len(told)), lengths]
    torch.testing.assert_close(ends, (torch.tensor(scores) - mean) / std, atol=1e-4, rtol=1e-4)
    for row, each in enumerate(told):
        terms = torch.tensor([term for *_, term in each["tokens"]])  # the score if it ended there, 5 decimals
        torch.testing.assert_close(values[row, 1 : lengths[row] + 1], (terms - mean) / std, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("reward", ["lora", "full"])
def test_a_reward_models_tuned_trunk_makes_other_values_than_the_bases(tmp_path, tiny_base, reward):
    """Else the tests of the start would not see a trunk that was not copied."""
    folder = make_run(tmp_path, tiny_base)
    model = with_reward_model(folder, tiny_base, pooling="last", kind=reward)
    frozen = model._replace(kind="probe", trunk=load_policy(tiny_base, dtype="float32"))
    groups = [Group([1, 20, 30], [[50, 60, 2], [70, 2]])]
    assert (model.score_groups(groups) - frozen.score_groups(groups)).abs().min() > 0.1


def with_backbone(folder: RunFolder, base, backbone) -> None:
    policy = load_policy(base, dtype="float32", device="cpu")
    trunk = load_policy(backbone, dtype="float32", device="cpu", can_be_encoder=True)
    head = RewardHead((Reading("last", 1),), torch.ones(1, trunk.model.config.hidden_size))
    save_reward_model(RewardModel("backbone", trunk, policy, head, None, {}), folder.stage("reward") / "model", {})


ZERO = [(kind, reward) for kind in KINDS for reward in ("mean", "mean lora", "mean full", "function", "backbone")]
ZERO += [("head", "lora"), ("head", "full"), ("adapter", "full"), ("full", "lora")]


@pytest.mark.parametrize(("kind", "reward"), ZERO)
def test_it_starts_at_zero_where_it_cannot_be_the_reward_model(tmp_path, tiny_base, tiny_bert, kind, reward):
    """On a mean no token's term foretells the rest, and a trunk of another kind than the critic's is not copied."""
    settings = {"updates": 1, "critic": {"kind": kind, "pretrain_steps": 0}}
    folder, function = make_run(tmp_path, tiny_base, ppo=settings), None
    if reward == "function":
        function = "tests.rlhf.rewards:has_e"
    elif reward == "backbone":
        with_backbone(folder, tiny_base, tiny_bert)
    else:
        pooling = "mean" if "mean" in reward else "last"
        with_reward_model(folder, tiny_base, pooling=pooling, kind=reward.removeprefix("mean").strip() or "probe")
    job = prepare(folder, folder.config, function)
    assert job.critic.layer == (1 if kind == "head" else 2), "the middle of two layers, or the output"
    assert warmed_up(job, sample_prompts(job, 1), Moments()).abs().max() == 0
    ppo.run_ppo(folder, StopSignal(), reward=function)
    assert (folder.path / "ppo" / "policy").exists()


def copies(parameters) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in parameters.items()}


@pytest.mark.parametrize(("kind", "reward"), STARTS)
def test_training_a_copy_changes_neither_policy_nor_reward_model(tmp_path, tiny_base, kind, reward):
    settings = {"critic": {"kind": kind, "pretrain_steps": 3, "pretrain_until": 1.0, "learning_rate": 0.01}}
    folder = make_run(tmp_path, tiny_base, ppo=settings)
    with_reward_model(folder, tiny_base, pooling="last", kind=reward)
    job = prepare(folder, folder.config, None)
    rollout = sample_prompts(job, 1)
    critic = {id(parameter) for parameter in job.critic.parameters.values()}
    models = (job.actor.policy.model, job.base.model, job.scorer.model.trunk.model)
    others = [{name: p for name, p in model.named_parameters() if id(p) not in critic} for model in models]
    before, own = [copies(each) for each in others], copies(job.critic.parameters)
    scores = job.scorer.model.score_groups(rollout.groups)
    warmed_up(job, rollout, Moments())
    for each, kept in zip(others, before, strict=True):
        assert all(torch.equal(each[name], value) for name, value in kept.items())
    assert torch.equal(job.scorer.model.score_groups(rollout.groups), scores)
    changed = [name for name, value in job.critic.parameters.items() if not torch.equal(value, own[name])]
    assert "head.weight" in changed and (kind == "head" or any("layers.0" in name for name in changed))


def test_it_is_pre_trained_on_rewards_to_go_under_the_runs_discount(tmp_path, tiny_base, monkeypatch):
    folder = make_run(tmp_path, tiny_base, ppo={"advantage": {"gamma": 0.5}})
    job, learned = prepare(folder, folder.config, "tests.rlhf.rewards:has_e"), []
    monkeypatch.setattr(ppo, "pretrain_critic", lambda *_, returns, **__: learned.append(returns) or (0, 0.0))
    rollout, observation, _ = look(job, 1, Clock())
    warm_up_critic(job, Progress(), rollout, observation, rollout.mask.float(), None)
    left = rollout.mask.flip(1).cumsum(1).flip(1)  # of n tokens left, each paid 1: 1 + 1/2 + 1/4 ... = 2 - 2^(1 - n)
    torch.testing.assert_close(learned[0], torch.where(rollout.mask, 2 - 2.0 ** (1 - left), 0.0))


def test_a_full_critic_trains_embeddings_that_the_head_shares(tmp_path, tiny_base):
    critic = job_with(tmp_path, tiny_base, "full").critic
    assert critic.trunk.policy.is_tied
    assert any("embed_tokens" in name for name in critic.parameters)


@pytest.mark.parametrize(("kind", "rate"), [("head", 3e-3), ("adapter", 2e-4), ("full", 2e-5)])
def test_each_kind_has_a_learning_rate_of_its_own_unless_one_is_set(tmp_path, tiny_base, kind, rate):
    assert job_with(tmp_path / "own", tiny_base, kind).critic.optimiser.param_groups[0]["lr"] == rate
    run = make_run(tmp_path / "set", tiny_base, ppo={"critic": {"kind": kind, "learning_rate": 0.5}})
    set_to = prepare(run, run.config, "tests.rlhf.rewards:has_e").critic.optimiser
    assert set_to.param_groups[0]["lr"] == 0.5
