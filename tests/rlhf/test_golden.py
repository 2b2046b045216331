"""PPO and reward modelling against numbers that TRL computed (`golden/`), each difference undone where it acts.

The same weights, prompts and token ids go through our functions. What TRL does otherwise stands in a test of its name;
`docs/algorithms.md` has the list. Nothing here needs TRL: `golden/make_ppo.py` and `golden/make_reward.py` ran it.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from tests.tiny_models import make_tokenizer
from trainer.rlhf.advantage import gae, token_rewards, whitened
from trainer.rlhf.critic import critic_step, rollout_values
from trainer.rlhf.data import Completion, Prompt, Ranking
from trainer.rlhf.experience import Actor, Observation, Rollout, layouts, roll_out, rollout_logprobs
from trainer.rlhf.folder import RunFolder
from trainer.rlhf.packing import Group
from trainer.rlhf.pairs import pairs_of
from trainer.rlhf.policy import load_policy
from trainer.rlhf.ppo import Seen, learn, measure, observe_rollout, policy_step
from trainer.rlhf.ppo_job import Clock, Job, Progress, prepare
from trainer.rlhf.reward_head import Reading, RewardHead
from trainer.rlhf.reward_loss import pairwise_loss
from trainer.rlhf.reward_model import RewardModel, save_reward_model
from trainer.rlhf.reward_tuning import make_trainee
from trainer.rlhf.rollout import Sample, SamplingSettings

FOLDER = Path(__file__).parent / "golden"
PPO = json.loads((FOLDER / "ppo.json").read_text())
REWARD = json.loads((FOLDER / "reward.json").read_text())
TENSORS = load_file(FOLDER / "ppo.safetensors")
INVALID_LOGPROB = 1.0  # what TRL writes over padding
LAYER = 2  # the output of both blocks, which TRL's classifiers read


def close(found: Any, golden: Any, *, atol: float = 1e-5, rtol: float = 1e-5) -> None:
    torch.testing.assert_close(torch.as_tensor(found).float(), torch.as_tensor(golden).float(), atol=atol, rtol=rtol)


class World(NamedTuple):
    """One of TRL's runs beside a job of ours on its completions, up to the first step."""

    name: str
    theirs: dict[str, Any]
    job: Job
    rollout: Rollout
    observation: Observation
    values: torch.Tensor  # (row, time + 1)

    @property
    def mask(self) -> torch.Tensor:
        return self.rollout.mask

    @property
    def mask_p1(self) -> torch.Tensor:
        """TRL's mask of values and rewards: it has the place after EOS too, where there is room for one."""
        return torch.arange(self.mask.shape[1]) <= self.mask.sum(1, keepdim=True)

    @property
    def token_kl(self) -> torch.Tensor:
        return torch.where(self.mask, self.rollout.logprobs - self.observation.ref_logprobs, 0.0)

    def their(self, name: str) -> torch.Tensor:
        return torch.tensor(self.theirs[name])

    def their_raw_advantages(self) -> torch.Tensor:
        """Before whitening: returns less values."""
        return self.their("returns") - self.their("values")

    def gradient(self, number: int, name: str) -> torch.Tensor:
        return TENSORS[f"{self.name}.{number}.{name}"]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """The golden base with a tokenizer, of which only the ids of its special tokens matter here."""
    path = tmp_path_factory.mktemp("golden") / "base"
    shutil.copytree(FOLDER / "base", path)
    make_tokenizer().save_pretrained(path)
    return path


@pytest.fixture
def world(base, tmp_path, request) -> World:
    name = request.param
    job = job_of(name, base, tmp_path)
    rollout = rollout_of(PPO["runs"][name])
    logprobs = rollout_logprobs(job.actor, rollout, temperature=job.config.ppo.temperature, max_tokens=100)
    rollout = rollout._replace(logprobs=logprobs)
    observation = observe_rollout(job, rollout)
    values = rollout_values(job.critic, rollout, None, pad_id=job.pad_id, max_tokens=100)
    return World(name, PPO["runs"][name], job, rollout, observation, values)


def on(*names: str) -> pytest.MarkDecorator:
    """Gives a test the worlds of these runs."""
    return pytest.mark.parametrize("world", names, indirect=True)


def job_of(name: str, base: Path, folder: Path) -> Job:
    """A job with TRL's settings: its adapter to train, a reward head on the base, a critic with a trunk of its own."""
    theirs = PPO["runs"][name]["settings"]
    ppo = {
        "prompts": len(PPO["runs"][name]["prompts"]),
        "samples": 1,
        "temperature": theirs["temperature"],
        "minibatches": theirs["num_mini_batches"],
        "epochs": theirs["num_ppo_epochs"],
        "micro_tokens": 50,
        "learning_rate": theirs["learning_rate"],
        "warmup_updates": 0,
        "max_grad_norm": 1e9,  # TRL's PPO clips no gradient
        "kl": {"coef": theirs["kl_coef"]},
        "score": {"is_normalised": False},
        "advantage": {"gamma": theirs.get("gamma", 1.0), "lam": theirs.get("lam", 0.95)},
        "critic": {"kind": "full", "learning_rate": theirs["learning_rate"], "pretrain_steps": 0},
    }
    config = {
        "base_model": str(base),
        "parent": str(FOLDER / "adapter"),
        "dtype": "float32",
        "max_completion_tokens": theirs["response_length"],
        "ppo": ppo,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "prompts.jsonl").write_text(
        json.dumps({"id": "a", "messages": [{"role": "user", "content": "?"}], "split": "train"}) + "\n"
    )
    run_folder, frozen = RunFolder(folder), load_policy(base, dtype="float32", device="cpu")
    head = RewardHead((Reading("last", LAYER),), torch.tensor([PPO["reward_weight"]]))
    save_reward_model(RewardModel("probe", frozen, frozen, head, None, {}), run_folder.stage("reward") / "model", {})
    job = prepare(run_folder, run_folder.config, None)
    with torch.no_grad():
        job.critic.head.weight.copy_(torch.tensor(PPO["value_weight"]))
    job.critic.head.bias.requires_grad_(False)  # TRL's value head has none
    return job._replace(critic=job.critic._replace(start=None))  # and is drawn: ours would start as the reward model


def rollout_of(run: dict[str, Any]) -> Rollout:
    """TRL's completions as a rollout of ours: masks from lengths, whatever the ids."""
    stop = run["settings"].get("stop_token_id", PPO["eos"] if "stop_token" in run["settings"] else None)
    groups = [Group(prompt, [ids]) for prompt, ids in zip(run["prompts"], run["completions"], strict=True)]
    lengths = torch.tensor([len(ids) for ids in run["completions"]])
    tokens = torch.zeros(len(groups), int(lengths.max()), dtype=torch.long)
    for row, ids in enumerate(run["completions"]):
        tokens[row, : len(ids)] = torch.tensor(ids)
    is_stopped = torch.tensor([ids[-1] == stop for ids in run["completions"]])
    samples = [
        Sample("", ids, "stop" if is_over else "length", [0.0] * len(ids))
        for ids, is_over in zip(run["completions"], is_stopped.tolist(), strict=True)
    ]
    prompts = [Prompt(str(row), [{"role": "user", "content": "?"}]) for row in range(len(groups))]
    mask = torch.arange(tokens.shape[1]) < lengths[:, None]
    return Rollout(prompts, groups, samples, tokens, mask, torch.zeros(tokens.shape), is_stopped)


# --- what a rollout is worth -------------------------------------------------------------------------------------


@on(*PPO["runs"])
def test_the_completions_are_of_every_kind(world):
    """Else the comparisons below would show nothing: ends before the last place, ends at it, cut ones, EOS inside."""
    if world.name == "cut":
        assert not world.rollout.is_stopped.any()
        return
    lengths = world.mask.sum(1)
    assert (world.rollout.is_stopped & (lengths < 9)).sum() >= 3
    assert (~world.rollout.is_stopped).sum() >= 3
    if world.name == "ends":
        assert (world.rollout.is_stopped & (lengths == 9)).any()
    assert any(PPO["eos"] in prompt for prompt in world.theirs["prompts"])


@on(*PPO["runs"])
def test_logprobs_are_trls_and_padding_is_0_here_and_invalid_there(world):
    """TRL samples at T + 1e-7, which is below rounding."""
    mask = world.mask
    for found, name in ((world.rollout.logprobs, "logprobs"), (world.observation.ref_logprobs, "ref_logprobs")):
        close(found[mask], world.their(name)[mask])
        assert not found[~mask].any()
        assert (world.their(name)[~mask] == INVALID_LOGPROB).all()


@on(*PPO["runs"])
def test_the_value_before_each_token_is_trls_and_so_is_the_one_after_the_end(world):
    """Both have the value of the state before token t at place t; TRL's grid has no place after the last column."""
    close(torch.where(world.mask_p1, world.values[:, :-1], 0.0), world.their("values"))


@on(*PPO["runs"])
def test_scores_are_read_at_the_last_real_token_as_trl_reads_them(world):
    theirs, penalty = world.their("scores"), world.theirs["settings"].get("missing_eos_penalty")
    if penalty is not None:  # TRL has subtracted it where the tokenizer's EOS is nowhere in the completion
        has_eos = torch.tensor([PPO["eos"] in ids for ids in world.theirs["completions"]])
        theirs = torch.where(has_eos, theirs, theirs + penalty)
    close(world.observation.scores, theirs)


@on(*PPO["runs"])
def test_the_kl_of_a_completion_is_the_sum_over_its_tokens_as_in_trl(world):
    kl = world.token_kl
    if world.theirs["settings"].get("kl_estimator") == "k3":
        kl = torch.where(world.mask, (-kl).exp() - 1 + kl, 0.0)
    close(kl.sum(1).mean(), world.theirs["metrics"]["objective/kl"])


@on("ends")
def test_metrics_of_a_rollout_are_trls_where_they_mean_the_same(world):
    measured, metrics = measure(world.job, world.rollout, world.observation), world.theirs["metrics"]
    close(measured.kl, metrics["objective/kl"])
    close(measured.score, metrics["objective/scores"])
    # TRL's objective/entropy is -log pi of the drawn tokens, summed over a completion; ours the entropy of a token
    close(-world.rollout.logprobs.sum(1).mean(), metrics["objective/entropy"])


# --- rewards and advantages --------------------------------------------------------------------------------------


@on("ends", "cut")
def test_trl_pays_the_score_one_place_after_the_end_and_we_at_the_last_token(world):
    coef, scores = world.theirs["settings"]["kl_coef"], world.observation.scores
    theirs = token_rewards(world.token_kl, scores, world.mask_p1, coef)  # the mask alone makes the difference
    close(theirs, world.their("rewards"))
    ours = token_rewards(world.token_kl, scores, world.mask, coef)
    last = world.mask.sum(1) - 1
    place = torch.tensor(world.theirs["score_place"])
    has_room = last + 1 < world.mask.shape[1]
    assert torch.equal(place, torch.where(world.rollout.is_stopped & has_room, last + 1, last))
    moved = world.their("rewards")
    rows = torch.arange(len(moved))
    moved[rows, place] -= world.their("scores")
    moved[rows, last] += world.their("scores")
    close(ours, moved)


@on("ends", "cut")
def test_advantages_are_trls_once_the_state_after_the_end_is_a_step_as_there(world):
    advantage = world.job.config.ppo.advantage
    rewards = token_rewards(
        world.token_kl, world.observation.scores, world.mask_p1, world.theirs["settings"]["kl_coef"]
    )
    found = gae(rewards, world.values, world.mask_p1, gamma=advantage.gamma, lam=advantage.lam)
    close(found.advantages[world.mask], world.their_raw_advantages()[world.mask])
    close(found.returns, world.their("returns"))


@on("ends", "cut")
def test_our_advantages_differ_from_trls_by_a_closed_form(world):
    """With gamma 1 TRL's extra step adds lam^(L-1-t) (1 - lam) (V(end) - score) to A_t of a completion of L tokens.

    delta of the last token: ours r + score - V, TRL's r + V(end) - V; of its extra step: score - V(end), times lam.
    """
    lam = world.job.config.ppo.advantage.lam
    scores = world.observation.scores
    rewards = token_rewards(world.token_kl, scores, world.mask, world.theirs["settings"]["kl_coef"])
    ours = gae(rewards, world.values, world.mask, gamma=1.0, lam=lam).advantages
    theirs = ours.clone()
    for row, length in enumerate(world.mask.sum(1).tolist()):
        if length < world.mask.shape[1]:
            gap = float(world.values[row, length] - scores[row])
            for t in range(length):
                theirs[row, t] += lam ** (length - 1 - t) * (1 - lam) * gap
    close(theirs[world.mask], world.their_raw_advantages()[world.mask])


@on(*PPO["runs"])
def test_trl_whitens_with_the_unbiased_variance_and_we_with_the_populations(world):
    mask, raw = world.mask, world.their_raw_advantages()
    count = int(mask.sum())
    close(whitened(raw, mask) * ((count - 1) / count) ** 0.5, world.their("advantages"))


@on("ends")
def test_trl_whitens_each_process_alone_and_we_all_together(world):
    raw, ranks = world.their_raw_advantages(), torch.tensor(PPO["functions"]["advantages_of_two_ranks"])
    for part, mask, theirs in zip(raw.split(4), world.mask.split(4), ranks, strict=True):
        count = int(mask.sum())
        close((whitened(part, mask) * ((count - 1) / count) ** 0.5)[mask], theirs[mask])
    assert (whitened(raw, world.mask) - ranks.flatten(0, 1))[world.mask].abs().max() > 0.1


@on("options")
def test_trls_other_options_are_undone_one_by_one(world):
    """k3 as the penalty, the score less a penalty without EOS, rewards whitened, gamma under 1."""
    settings, kl = world.theirs["settings"], world.token_kl
    k3 = torch.where(world.mask, (-kl).exp() - 1 + kl, 0.0)
    # TRL looks for the tokenizer's EOS, so that a custom stop id is penalised and a cut completion with EOS is not
    has_eos = torch.tensor([PPO["eos"] in ids for ids in world.theirs["completions"]])
    assert (world.rollout.is_stopped & ~has_eos).any()
    assert (~world.rollout.is_stopped & has_eos).any()
    scores = world.observation.scores - torch.where(has_eos, 0.0, settings["missing_eos_penalty"])
    mask = world.mask_p1
    rewards = token_rewards(k3, scores, mask, settings["kl_coef"])
    # whitened by the unbiased deviation with the mean put back; ours divides scores by a running deviation instead
    count = int(mask.sum())
    rewards = torch.where(mask, whitened(rewards, mask) * ((count - 1) / count) ** 0.5 + rewards[mask].mean(), 0.0)
    close(rewards, world.their("rewards"))
    found = gae(rewards, world.values, mask, gamma=settings["gamma"], lam=settings["lam"])
    close(found.advantages[world.mask], world.their_raw_advantages()[world.mask])
    close(found.returns, world.their("returns"))


def test_a_pad_id_that_is_eos_costs_trl_the_end_and_us_nothing(base):
    """TRL finds the end by the first pad id: with EOS = PAD its last token is the one before EOS, -1 for EOS alone."""
    functions = PPO["functions"]
    lengths = functions["lengths_where_pad_is_eos"]
    assert functions["last_places_where_pad_is_eos"] == [lengths[0] - 2, lengths[1] - 2, lengths[2] - 1]
    policy = load_policy(base, dtype="float32", device="cpu")
    assert policy.pad_id == PPO["eos"]
    prompts = [Prompt("a", [{"role": "user", "content": "?"}])]
    settings = SamplingSettings(1.0, 1.0, lengths[2])
    rollout = roll_out(
        Actor(policy, None), prompts, [[1, 21, PPO["eos"], 1]], samples=40, seeds=range(40), settings=settings
    )
    is_eos = rollout.tokens == PPO["eos"]
    assert rollout.is_stopped.any()
    assert torch.equal((is_eos & rollout.mask).sum(1), rollout.is_stopped.long())
    last = (rollout.mask.sum(1) - 1)[:, None]
    assert torch.equal(is_eos.gather(1, last)[:, 0], rollout.is_stopped)


# --- steps -------------------------------------------------------------------------------------------------------


def their_advantages(world: World) -> tuple[torch.Tensor, torch.Tensor]:
    """Advantages and returns of our functions with TRL's differences put in."""
    advantage, settings = world.job.config.ppo.advantage, world.theirs["settings"]
    rewards = token_rewards(world.token_kl, world.observation.scores, world.mask_p1, settings["kl_coef"])
    found = gae(rewards, world.values, world.mask_p1, gamma=advantage.gamma, lam=advantage.lam)
    count = int(world.mask.sum())
    return whitened(found.advantages, world.mask) * ((count - 1) / count) ** 0.5, found.returns


def close_gradients(world: World, number: int, factor: float = 1.0) -> None:
    for name, parameter in world.job.parameters.items():
        close(parameter.grad * factor, world.gradient(number, f"policy.{name}"))


@on("ends")
def test_every_step_of_two_epochs_is_trls(world):
    """Losses, clip fractions, ratios, approximate KL, gradients of four steps, and the weights after them."""
    job, rollout, settings = world.job, world.rollout, world.theirs["settings"]
    advantages, returns = their_advantages(world)
    # TRL minimises policy loss + vf_coef value loss with one AdamW: its eps weighs more against a gradient so scaled
    job.critic.optimiser.param_groups[0]["eps"] = 1e-5 / settings["vf_coef"]
    stats = world.theirs["stats"]
    for number, theirs in enumerate(world.theirs["steps"]):
        rows = theirs["rows"]
        packed = list(layouts(rollout, rows, pad_id=job.pad_id, max_tokens=job.config.ppo.micro_tokens))
        mask, grid = rollout.mask[rows], rollout.mask[rows].numel()
        logprobs = rollout_logprobs(job.actor, rollout, temperature=settings["temperature"], max_tokens=100)[rows]
        close(logprobs[mask], torch.tensor(theirs["logprobs"])[mask])
        tokens = float(mask.sum())
        step = policy_step(job, rollout, packed, (1, 0, 0), rollout.logprobs, advantages, tokens)
        close(step["ppo/loss/policy"], theirs["policy_loss"])
        close(step["ppo/policy/clipfrac"], stats["pg_clipfrac"][number])
        # TRL's mean ratio and approximate KL count padding, as ratio 1 and KL 0; its KL is k2, ours k3
        close((step["ppo/policy/ratio"] * tokens + grid - tokens) / grid, stats["ratio"][number])
        log_ratio = torch.where(mask, logprobs - rollout.logprobs[rows], 0.0)
        close(0.5 * log_ratio.square().mean(), stats["approxkl"][number])
        ratio = torch.tensor(theirs["ratio"])[mask]
        close(step["ppo/policy/approxkl"], (ratio - 1 - ratio.log()).mean())
        close_gradients(world, number + 1)
        # TRL's value loss counts the place after the end too
        theirs_p1 = rollout._replace(mask=world.mask_p1)
        value = critic_step(
            job.critic,
            theirs_p1,
            packed,
            features=None,
            old_values=world.values[:, :-1],
            returns=returns,
            tokens=float(world.mask_p1[rows].sum()),
            clip=job.config.ppo.loss.value_clip,
            max_grad_norm=1e9,
            processes=job.processes,
        )
        close(value.loss, theirs["value_loss"])
        close(value.clipped, stats["vf_clipfrac"][number])
        close(job.critic.head.weight.grad * settings["vf_coef"], world.gradient(number + 1, "value.head"))
        trunk = [value.grad.norm() for name, value in job.critic.parameters.items() if not name.startswith("head.")]
        close(torch.stack(trunk).norm() * settings["vf_coef"], theirs["value_trunk_grad_norm"])
    for name, parameter in job.parameters.items():
        close(parameter, TENSORS[f"ends.after.policy.{name}"])
    close(job.critic.head.weight, TENSORS["ends.after.value.head"])


@on("cut")
def test_a_whole_update_is_trls_where_no_completion_ends(world):
    """No place after the end, no padding, one minibatch: only the whitening's variance is left to tell them apart."""
    job, stats = world.job, world.theirs["stats"]
    measured = measure(job, world.rollout, world.observation)
    progress = Progress(kl_coef=world.theirs["settings"]["kl_coef"])
    found = learn(job, progress, 1, Seen(world.rollout, world.observation, measured), Clock(), None)
    count = int(world.mask.sum())
    close(found["ppo/loss/policy"], stats["pg_loss"][0])  # near 0: whitened advantages at ratio 1
    close_gradients(world, 1, factor=((count - 1) / count) ** 0.5)
    close(found["ppo/loss/value"], stats["vf_loss"][0])
    close(job.critic.head.weight.grad * 0.1, world.gradient(1, "value.head"))  # vf_coef
    close(found["objective/entropy"], stats["entropy"][0])
    close(found["ppo/policy/ratio"], stats["ratio"][0])
    close(found["ppo/policy/approxkl"], stats["approxkl"][0])
    close(found["ppo/val/mean"], world.their("values").mean())
    close(found["ppo/returns/mean"], world.their("returns").mean())


@on("options")
def test_trl_averages_over_micro_batches_and_we_over_the_tokens_of_the_minibatch(world):
    """TRL's loss is the mean of its two micro-batches' means, whatever their tokens; the loss is linear in A > 0.

    So advantages times (all tokens) / (2 x the micro-batch's tokens) turn our mean over tokens into TRL's.
    """
    still = replace(world.job.config, ppo=replace(world.job.config.ppo, learning_rate=0.0))
    job, rollout = world.job._replace(config=still), world.rollout
    advantages, tokens = world.their("advantages"), float(world.mask.sum())
    parts = [step["rows"] for step in world.theirs["steps"]]
    counts = [float(world.mask[rows].sum()) for rows in parts]
    assert counts[0] != counts[1]
    weighed = advantages.clone()
    for rows, count in zip(parts, counts, strict=True):
        weighed[rows] *= tokens / (2 * count)
    packed = list(layouts(rollout, range(len(rollout.samples)), pad_id=job.pad_id, max_tokens=50))
    step = policy_step(job, rollout, packed, (1, 0, 0), rollout.logprobs, weighed, tokens)
    losses = [step["policy_loss"] for step in world.theirs["steps"]]
    close(step["ppo/loss/policy"], sum(losses) / 2)
    close_gradients(world, 2)  # after TRL's second micro-batch
    ours = policy_step(job, rollout, packed, (1, 0, 0), rollout.logprobs, advantages, tokens)["ppo/loss/policy"]
    assert ours == pytest.approx(sum(loss * n for loss, n in zip(losses, counts, strict=True)) / tokens, abs=1e-5)


# --- reward modelling --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pad", "pad_is_eos"])
def test_the_loss_scores_and_gradients_of_pairs_with_margin_and_centring_are_trls(base, name):
    """TRL computes each row alone, prompt and all; here chosen and rejected share a packed row.

    A classifier of transformers reads the last token that is not PAD. Where PAD = EOS, TRL trains on the token before
    EOS; ours stays with the last token, and gives TRL's numbers for completions without their EOS.
    """
    golden, size = REWARD["runs"][name], len(PPO["reward_weight"])
    pairs = [REWARD["pairs"][place] for place in golden["order"]]
    completions = [[pair["chosen"], pair["rejected"]] for pair in pairs]
    if name == "pad_is_eos":
        completions = [[[token for token in ids if token != PPO["eos"]] for ids in both] for both in completions]
    groups = [Group(pair["prompt"], both) for pair, both in zip(pairs, completions, strict=True)]
    head = RewardHead((Reading("last", LAYER),), torch.tensor([PPO["reward_weight"]]))
    trainee = make_trainee(load_policy(base, dtype="float32", device="cpu"), head, None, torch.ones(1, size), seed=1)
    scores = trainee.pooled(groups, is_packed=True) @ trainee.weight
    close(torch.cat([scores[0::2], scores[1::2]]), golden["scores"])
    both = (Completion("chosen", "x"), Completion("rejected", "y"))
    rankings = [Ranking(str(n), str(n), [{"role": "user", "content": "?"}], both, (1, 2)) for n in range(len(pairs))]
    margin = torch.tensor([pair["margin"] for pair in pairs])
    loss = pairwise_loss(scores, pairs_of(rankings), margin=margin, centring=REWARD["centring"])
    close(loss, golden["loss"])
    loss.backward()
    close(trainee.weight.grad, golden["head_gradient"])
    trunk = {name.removeprefix("model."): value for name, value in trainee.parameters.items() if "score" not in name}
    assert trunk.keys() == golden["gradient_norms"].keys()
    for part, parameter in trunk.items():
        close(parameter.grad.norm(), golden["gradient_norms"][part])
