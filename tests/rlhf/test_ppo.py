"""PPO-max: hand gradients of its clips, its first pass, and what it converges to where that is known."""

import json
import math
import re
from dataclasses import replace
from random import Random
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from tests.rlhf.run_folders import make_run, run
from trainer.rlhf import imitation, ppo_job
from trainer.rlhf.config import ConfigError, KLConfig
from trainer.rlhf.critic import value_loss
from trainer.rlhf.encoding import encode_conversation, encode_prompt
from trainer.rlhf.folder import StageError, StopSignal
from trainer.rlhf.imitation import conversation_loss
from trainer.rlhf.policy import load_policy
from trainer.rlhf.ppo import (
    adapted_kl_coef,
    kl_limit,
    look,
    look_again,
    measure,
    minibatch_layouts,
    my_places,
    observe_rollout,
    policy_loss,
    policy_step,
    reason_to_stop,
    sample_prompts,
)
from trainer.rlhf.ppo_job import Clock, Progress, prepare, prompts_of_update
from trainer.rlhf.processes import Processes
from trainer.rlhf.rollout import derived_seed
from trainer.rlhf.sft import run_sft

HAS_E = "tests.rlhf.rewards:has_e"


def ask(question: str) -> dict[str, str]:
    return {"role": "user", "content": question}


def test_the_policy_loss_and_its_gradient_are_those_worked_out_by_hand():
    # ratios 1.5, 1.5, 0.5, 0.5 and 1.1 with advantages +2, -2, +2, -2 and +1; clip 0.2
    old = torch.zeros(5, dtype=torch.float64)
    new = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1], dtype=torch.float64).log().requires_grad_()
    advantages = torch.tensor([2.0, -2.0, 2.0, -2.0, 1.0], dtype=torch.float64)
    found = policy_loss(new, old, advantages, clip=0.2)
    # max(-A rho, -A clip(rho)): -2.4, +3, -1, +1.6, -1.1
    assert found.loss.item() == pytest.approx(-2.4 + 3 - 1 + 1.6 - 1.1)
    found.loss.backward()
    # d(-A rho)/d log pi = -A rho where the plain term is the larger, 0 where the clip acts
    assert new.grad.tolist() == pytest.approx([0.0, 3.0, -1.0, 0.0, -1.1])
    assert float(found.clipped) == 2
    assert float(found.ratio) == pytest.approx(5.1)


def test_it_trains_on_no_prompt_that_either_file_holds_out(tmp_path, tiny_base):
    folder = make_run(tmp_path, tiny_base)
    by_id, by_words, doubled, free = ([ask(f"What is {name}?")] for name in ("an id", "a word", "a double", "free"))
    prompts = [("a", by_id, None), ("b", by_words, None), ("c", doubled, "train"), ("d", doubled, "held_out")]
    write_lines(
        tmp_path / "prompts.jsonl",
        [{"id": name, "messages": messages, "split": split} for name, messages, split in [*prompts, ("e", free, None)]],
    )
    assert [prompt.id for prompt in prepare(folder, folder.config, HAS_E).prompts] == ["a", "b", "e"]
    answers = {"completions": [{"id": "1", "text": "x"}, {"id": "2", "text": "y"}], "ranks": [1, 2]}
    rankings = [("a", [ask("In other words?")], "held_out"), ("f", by_words, "held_out"), ("e", free, "train")]
    lines = [
        {"id": str(number), "prompt_id": name, "prompt": prompt, "split": split, **answers}
        for number, (name, prompt, split) in enumerate(rankings)
    ]
    write_lines(tmp_path / "rankings.jsonl", lines)
    assert [prompt.id for prompt in prepare(folder, folder.config, HAS_E).prompts] == ["e"]
    write_lines(tmp_path / "rankings.jsonl", [line | {"split": "held_out"} for line in lines])
    with pytest.raises(StageError, match="rankings.jsonl holds out every prompt"):
        prepare(folder, folder.config, HAS_E)


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_policy_gradient_agrees_with_finite_differences():
    generator = torch.Generator().manual_seed(3)
    old, advantages = torch.randn(2, 9, generator=generator, dtype=torch.float64)
    new = (old + 0.5 * torch.randn(9, generator=generator, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda logprobs: policy_loss(logprobs, old, advantages, 0.2).loss, new)


def test_the_value_loss_takes_the_worse_of_the_plain_and_the_clipped_error():
    # old 0, clip 0.2: V = 1 is bounded to 0.2, V = 0.1 is not
    values = torch.tensor([1.0, 1.0, 0.1], dtype=torch.float64, requires_grad=True)
    returns = torch.tensor([0.0, 3.0, 1.0], dtype=torch.float64)
    found = value_loss(values, torch.zeros(3, dtype=torch.float64), returns, clip=0.2)
    # plain squares 1, 4, 0.81; clipped 0.04, 7.84, 0.81
    assert found.loss.item() == pytest.approx(0.5 * (1 + 7.84 + 0.81))
    assert float(found.clipped) == 1
    found.loss.backward()
    assert values.grad.tolist() == pytest.approx([1.0, 0.0, -0.9])
    free = value_loss(values.detach(), torch.zeros(3, dtype=torch.float64), returns, clip=None)
    assert float(free.loss) == pytest.approx(0.5 * (1 + 4 + 0.81))


def test_the_kl_coefficient_moves_by_a_clipped_proportional_error():
    assert adapted_kl_coef(0.1, 4.4, target=4.0, share=0.5) == pytest.approx(0.1 * (1 + 0.1 * 0.5))
    assert adapted_kl_coef(0.1, 40.0, target=4.0, share=0.5) == pytest.approx(0.1 * (1 + 0.2 * 0.5))
    assert adapted_kl_coef(0.1, 0.0, target=4.0, share=0.5) == pytest.approx(0.1 * (1 - 0.2 * 0.5))
    assert adapted_kl_coef(0.1, 0.0, target=4.0, share=6.0) == pytest.approx(0.08), "never below 0 in a large update"


def test_kl_estimators_agree_with_the_closed_form_on_samples_of_the_policy():
    policy = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
    reference = torch.tensor([0.25, 0.25, 0.25, 0.25], dtype=torch.float64)
    exact = float((policy * (policy / reference).log()).sum())
    draws = torch.multinomial(policy, 200_000, replacement=True, generator=torch.Generator().manual_seed(1))
    k1 = (policy / reference).log()[draws]
    found = policy_loss(-k1, torch.zeros_like(k1), torch.zeros_like(k1), 0.2)  # log ratio of reference to policy
    assert float(k1.mean()) == pytest.approx(exact, abs=0.005)
    assert float(found.approx_kl) / len(draws) == pytest.approx(exact, abs=0.005)
    each = [
        float(policy_loss(-part[None], torch.zeros(1).double(), torch.zeros(1).double(), 0.2).approx_kl)
        for part in (policy / reference).log()
    ]
    assert min(each) >= 0 > float(k1.min())


def test_paying_k1_on_each_token_descends_the_kl_as_the_loss_k2_does():
    """E[grad k2] = grad KL(pi||ref), k2 = (log pi/ref)^2 / 2; and the policy gradient of the reward -k1 is the same."""
    generator = torch.Generator().manual_seed(4)
    logits, reference = torch.randn(2, 6, generator=generator, dtype=torch.float64)
    reference = reference.log_softmax(0)

    def gradient(objective) -> torch.Tensor:
        free = logits.clone().requires_grad_()
        (found,) = torch.autograd.grad(objective(free.log_softmax(0)), free)
        return found

    exact = gradient(lambda logprobs: (logprobs.exp() * (logprobs - reference)).sum())
    fixed = logits.log_softmax(0)  # expectations over the policy: every token, weighed by its probability
    k2 = gradient(lambda logprobs: (fixed.exp() * (logprobs - reference).square() / 2).sum())
    # the loss is linear in the advantage at ratio 1, so that a token's weight may stand in it
    paid = gradient(lambda logprobs: policy_loss(logprobs, fixed, -fixed.exp() * (fixed - reference), 0.2).loss)
    k1 = gradient(lambda logprobs: (fixed.exp() * (logprobs - reference)).sum())
    torch.testing.assert_close(k2, exact)
    torch.testing.assert_close(paid, exact)
    assert k1.abs().max() < 1e-12  # as a loss k1 teaches nothing


def test_on_the_first_pass_the_ratio_is_one_and_the_policy_is_its_reference(tmp_path, tiny_base):
    first = run(make_run(tmp_path, tiny_base, ppo={"updates": 1}))[0]
    assert first["objective/kl"] == pytest.approx(0, abs=1e-4)
    assert first["ppo/first/ratio"] == pytest.approx(1, abs=1e-5)
    assert first["ppo/first/approxkl"] == pytest.approx(0, abs=1e-6)
    assert first["ppo/first/clipfrac"] == 0


def test_on_the_first_pass_the_values_are_the_old_ones(tmp_path, tiny_base):
    """However narrow the clip: one minibatch, so that no step comes before the values are compared."""
    found = run(make_run(tmp_path, tiny_base, ppo={"minibatches": 1, "loss": {"value_clip": 1e-4}}))
    assert [update["ppo/val/clipfrac"] for update in found] == [0, 0, 0]
    two = run(make_run(tmp_path / "two", tiny_base, ppo={"minibatches": 2, "loss": {"value_clip": 1e-4}}))
    assert two[0]["ppo/val/clipfrac"] > 0


@pytest.mark.parametrize("temperature", [0.6, 1.4])
def test_the_kl_is_that_of_the_policy_that_samples(tmp_path, tiny_base, temperature):
    """At any temperature: 0 against itself, and of a moved policy on average the exact sum over the vocabulary."""
    settings = {"temperature": temperature, "prompts": 1, "minibatches": 1, "samples": 600}
    folder = make_run(tmp_path, tiny_base, prompts=1, max_completion_tokens=1, ppo=settings)
    job = prepare(folder, folder.config, HAS_E)
    still = sample_prompts(job, 1)
    same = measure(job, still, observe_rollout(job, still))
    assert same.kl == pytest.approx(0, abs=1e-5)
    for parameter in job.parameters.values():
        torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(3))
    rollout = sample_prompts(job, 2)
    moved = measure(job, rollout, observe_rollout(job, rollout))
    tempered = []
    for actor in (job.actor, job.reference):
        with torch.no_grad():
            logits = actor.activate().model(torch.tensor([job.prompt_ids[0]])).logits[0, -1]
        tempered.append((logits.double() / temperature).log_softmax(0))
    policy, reference = tempered
    exact = float((policy.exp() * (policy - reference)).sum())
    error = float(moved.token_kl.std()) / 600**0.5
    assert exact > 0.1
    assert moved.kl == pytest.approx(exact, abs=4 * error)


def test_recomputed_old_logprobs_are_those_of_the_sampler(tmp_path, tiny_base):
    sampler = run(make_run(tmp_path / "a", tiny_base, ppo={"old_logprobs": "sampler"}))
    recompute = run(make_run(tmp_path / "b", tiny_base, ppo={"old_logprobs": "recompute"}))
    assert recompute[-1]["objective/kl"] == pytest.approx(sampler[-1]["objective/kl"], abs=1e-3)
    assert recompute[0]["ppo/first/ratio"] == pytest.approx(1.0, abs=1e-6)


def gradients(job, rollout, micro_tokens: int) -> torch.Tensor:
    """The policy's gradient on one minibatch."""
    job = job._replace(config=replace(job.config, ppo=replace(job.config.ppo, micro_tokens=micro_tokens)))
    advantages = torch.randn(rollout.tokens.shape, generator=torch.Generator().manual_seed(1))
    packed = minibatch_layouts(job, rollout, 0)
    tokens = float(sum(rollout.mask[layout.rows].sum() for layout in packed))
    policy_step(job, rollout, packed, (1, 0, 0), rollout.logprobs, advantages, tokens)
    return torch.cat([parameter.grad.flatten().clone() for parameter in job.parameters.values()])


def test_micro_batches_change_no_gradient(tmp_path, tiny_base):
    folder = make_run(tmp_path, tiny_base, ppo={"learning_rate": 0.0, "minibatches": 1, "prompts": 6})
    job = prepare(folder, folder.config, HAS_E)
    rollout = sample_prompts(job, 1)
    whole = gradients(job, rollout, 10_000)
    torch.testing.assert_close(gradients(job, rollout, 60), whole, atol=1e-7, rtol=1e-4)
    assert whole.abs().max() > 0


class Deaf(Processes):
    """One of several processes that keeps to itself: what the others would add is left out."""

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor

    def sum_gradients(self, parameters) -> None:
        pass


def test_the_gradients_of_two_processes_sum_to_that_of_one(tmp_path, tiny_base):
    ppo = {"learning_rate": 0.0, "minibatches": 2, "prompts": 8, "max_grad_norm": 1e9}
    folder = make_run(tmp_path, tiny_base, prompts=16, ppo=ppo)
    job = prepare(folder, folder.config, HAS_E)

    def gradient(processes: Processes) -> tuple[torch.Tensor, float]:
        """Of minibatch 1, over the tokens of all; and the tokens this process has of it."""
        mine = job._replace(processes=processes)
        rollout = sample_prompts(mine, 1)
        packed = minibatch_layouts(mine, rollout, 1)
        advantages = torch.where(rollout.mask, rollout.logprobs + rollout.tokens % 3, 0.0)  # the rows' own, anywhere
        policy_step(mine, rollout, packed, (1, 0, 0), rollout.logprobs, advantages, 40.0)
        found = torch.cat([parameter.grad.flatten().clone() for parameter in job.parameters.values()])
        return found, float(sum(rollout.mask[layout.rows].sum() for layout in packed))

    whole, tokens = gradient(Processes())
    parts = [gradient(Deaf(rank, 2)) for rank in range(2)]
    assert parts[0][1] + parts[1][1] == tokens
    torch.testing.assert_close(parts[0][0] + parts[1][0], whole, atol=1e-6, rtol=1e-4)
    assert whole.abs().max() > 1e-3


def test_processes_share_an_update_without_a_gap_or_an_overlap(tmp_path, tiny_base):
    folder = make_run(tmp_path, tiny_base, ppo={"prompts": 8, "minibatches": 2})
    job = prepare(folder, folder.config, HAS_E)
    parts = [my_places(job._replace(processes=Processes(rank, 2))) for rank in range(2)]
    assert sorted(parts[0] + parts[1]) == list(range(8))
    assert all(sum(number % 2 == 0 for number in part) == 2 for part in parts)


def test_an_epoch_deals_every_prompt_once(tmp_path, tiny_base):
    folder = make_run(tmp_path, tiny_base, prompts=16)  # twelve to train on
    job = prepare(folder, folder.config, HAS_E)
    first_epoch = [place for update in (1, 2, 3) for place in prompts_of_update(job, update)]
    assert sorted(first_epoch) == list(range(12))
    assert prompts_of_update(job, 4) != prompts_of_update(job, 1)


def test_each_epoch_is_shuffled_once_into_an_order_that_later_versions_keep(tmp_path, tiny_base, monkeypatch):
    """A state says how far a run has come, not what it was dealt."""
    folder = make_run(tmp_path, tiny_base, prompts=9, ppo={"prompts": 4})  # seven to train on
    job = prepare(folder, folder.config, HAS_E)
    shuffled = []
    monkeypatch.setattr(ppo_job, "random", SimpleNamespace(Random=lambda seed: shuffled.append(seed) or Random(seed)))
    ppo_job._permutation.cache_clear()
    dealt = [place for update in range(1, 8) for place in prompts_of_update(job, update)]
    assert [dealt[start : start + 7] for start in range(0, 28, 7)] == [
        [0, 2, 4, 5, 1, 6, 3],
        [2, 1, 4, 6, 5, 0, 3],
        [3, 1, 0, 2, 4, 5, 6],
        [1, 5, 4, 3, 2, 0, 6],
    ]
    assert shuffled == [derived_seed(job.config.seed, 1, epoch) for epoch in range(4)]


def test_one_forward_of_the_base_gives_the_reference_its_logprobs(tmp_path, tiny_base):
    folder = make_run(tmp_path, tiny_base)
    job = prepare(folder, folder.config, HAS_E)
    rollout = sample_prompts(job, 1)
    observation = observe_rollout(job, rollout)
    torch.testing.assert_close(observation.ref_logprobs, rollout.logprobs, atol=1e-4, rtol=1e-4)
    assert observation.features.shape == (8, rollout.tokens.shape[1] + 1, 32)


@pytest.mark.parametrize("kind", ["head", "adapter", "full"])
def test_pre_training_the_critic_leaves_the_policy_bit_unchanged(tmp_path, tiny_base, kind):
    settings = {
        "updates": 1,
        "learning_rate": 0.0,
        "critic": {"kind": kind, "pretrain_steps": 5, "pretrain_until": 0.99},
    }
    folder = make_run(tmp_path, tiny_base, ppo=settings)
    before = prepare(folder, folder.config, HAS_E).parameters
    before = {name: value.detach().clone() for name, value in before.items()}
    found = run(folder)
    after = load_policy(tiny_base, adapter=folder.path / "ppo" / "policy", dtype="float32").adapter_parameters("policy")
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert found[0]["ppo/loss/value"] > 0


def test_a_pre_trained_critic_explains_returns_that_can_be_explained(tmp_path, tiny_base):
    settings = {"updates": 1, "prompts": 6, "samples": 8, "critic": {"pretrain_steps": 200, "pretrain_until": 0.3}}
    folder = make_run(tmp_path, tiny_base, ppo=settings)
    run(folder, "short")
    assert "the returns it was fitted to" in folder.log("ppo").records()[0]["message"]
    assert folder.log("ppo").records()[1]["metrics"]["ppo/val/var_explained"] > 0.2


def next_token_distribution(base, messages, adapter=None) -> torch.Tensor:
    policy = load_policy(base, adapter=adapter, dtype="float32", device="cpu")
    ids = encode_prompt(policy.tokenizer, messages, max_tokens=100)
    with torch.no_grad():
        return policy.model(torch.tensor([ids])).logits[0, -1].double().softmax(0)


def one_token_run(
    tmp_path, base, *, kl_coef: float, updates: int = 40, **settings
) -> tuple[torch.Tensor, torch.Tensor]:
    """Next-token distributions of reference and policy after PPO on one prompt, completions of one token."""
    ppo = {
        "updates": updates,
        "prompts": 1,
        "samples": 192,
        "minibatches": 1,
        "epochs": 2,
        "learning_rate": 0.01,
        "kl": {"coef": kl_coef, "stop": None, "rise": None},
        "score": {"is_normalised": False},
        "advantage": {"is_whitened": False},
        "checkpoint_every": updates,
    }
    folder = make_run(tmp_path, base, prompts=1, ppo=ppo, max_completion_tokens=1, lora=None)
    run(folder)
    messages = json.loads((folder.path / "prompts.jsonl").read_text())["messages"]
    found = next_token_distribution(base, messages, folder.path / "ppo" / "policy")
    return next_token_distribution(base, messages), found


def token_rewards_of(base) -> torch.Tensor:
    tokenizer = load_policy(base, dtype="float32").tokenizer
    texts = [tokenizer.decode([token], skip_special_tokens=True) for token in range(len(tokenizer))]
    return torch.tensor([float("e" in text) for text in texts], dtype=torch.float64)


def test_it_finds_the_best_arm_of_a_bandit(tmp_path, tiny_base):
    reference, policy = one_token_run(tmp_path, tiny_base, kl_coef=0.0)
    rewards = token_rewards_of(tiny_base)
    assert float(reference @ rewards) < 0.5
    assert float(policy @ rewards) > 0.95


def test_it_converges_to_the_reference_tilted_by_the_reward(tmp_path, tiny_base):
    beta = 0.5
    reference, policy = one_token_run(tmp_path, tiny_base, kl_coef=beta)
    optimum = reference * (token_rewards_of(tiny_base) / beta).exp()
    optimum /= optimum.sum()
    start = float((reference * (reference / optimum).log()).sum())
    end = float((policy * (policy / optimum).log()).sum())
    assert end < 0.35 * start
    rewards = token_rewards_of(tiny_base)
    assert float(policy @ rewards) == pytest.approx(float(optimum @ rewards), abs=0.08)


def test_the_final_kl_falls_as_the_coefficient_grows(tmp_path, tiny_base):
    kls = []
    for coef in (0.05, 0.5, 2.0):
        reference, policy = one_token_run(tmp_path / str(coef), tiny_base, kl_coef=coef, updates=12)
        kls.append(float((policy * (policy / reference).log()).sum()))
    assert kls[0] > kls[1] > kls[2]


def folder_of_policy(folder):
    return folder.path / "ppo" / "policy"


def manifest_of(folder) -> dict:
    return json.loads((folder_of_policy(folder) / "manifest.json").read_text())


def test_it_stops_hard_at_the_kl_it_was_told_and_publishes_what_lay_under_it(tmp_path, tiny_base):
    kl = {"coef": 0.0, "stop": 0.5}
    folder = make_run(tmp_path, tiny_base, ppo={"updates": 30, "learning_rate": 0.05, "kl": kl})
    run(folder)
    manifest = manifest_of(folder)
    assert manifest["stopped_because"] == "kl"
    assert manifest["updates"] < 30
    assert manifest["kl"] == manifest["history"]["kl"][-1] <= 0.5


def test_it_shortens_the_step_that_went_over_the_stop_until_it_lies_under(tmp_path, tiny_base):
    manifests = []
    for backtracks in (0, 4):
        kl = {"coef": 0.0, "stop": 0.5, "backtracks": backtracks}
        folder = make_run(tmp_path / str(backtracks), tiny_base, ppo={"updates": 30, "learning_rate": 0.05, "kl": kl})
        run(folder)
        manifests.append(manifest_of(folder))
    plain, shortened = manifests
    assert shortened["history"]["kl"][:-1] == plain["history"]["kl"]  # the same run up to the step that was too long
    assert plain["kl"] < shortened["kl"] == shortened["history"]["kl"][-1] <= 0.5
    assert shortened["updates"] == plain["updates"] + 1 == len(plain["history"]["kl"])


def test_the_manifests_updates_are_those_behind_the_published_policy(tmp_path, tiny_base):
    ppo = {"updates": 12, "learning_rate": 0.003, "kl": {"coef": 0.0, "stop": 0.15, "backtracks": 0}}
    stopped = make_run(tmp_path / "stopped", tiny_base, ppo=ppo)
    made = len(run(stopped))
    manifest = manifest_of(stopped)
    assert 0 < manifest["updates"] == made - 1, "the last step went over the stop"
    free = {"coef": 0.0, "stop": None, "rise": None}
    again = make_run(tmp_path / "again", tiny_base, ppo=ppo | {"updates": manifest["updates"], "kl": free})
    run(again)
    assert manifest_of(again)["files"] == manifest["files"]


def test_where_the_first_step_goes_over_the_stop_it_publishes_the_start_and_says_so(tmp_path, tiny_base):
    kl = {"stop": 1e-3, "backtracks": 0}
    folder = make_run(tmp_path, tiny_base, ppo={"updates": 3, "learning_rate": 0.05, "kl": kl})
    run(folder)
    manifest = manifest_of(folder)
    assert (manifest["stopped_because"], manifest["updates"]) == ("kl", 0)
    assert [manifest["kl"]] == manifest["history"]["kl"]
    tensors = load_file(tmp_path / "ppo" / "policy" / "adapter_model.safetensors")
    assert not any(value.any() for name, value in tensors.items() if "lora_B" in name)
    assert folder.log("ppo").records()[-1]["message"] == (
        "stopped: the first step is too far from the reference; the policy is the one that the run began with"
    )


def test_it_does_not_begin_where_the_parent_is_past_the_stop_already(tmp_path, tiny_base):
    first = make_run(tmp_path / "1", tiny_base, ppo={"updates": 5, "learning_rate": 0.03})
    run(first)
    parent, kl = str(first.path / "ppo" / "policy"), {"stop": 0.02}
    second = make_run(tmp_path / "2", tiny_base, parent=parent, ppo={"kl": kl})
    words = r"the parent is [\d.]+ nats from the reference, and ppo.kl.stop is 0.02: set ppo.reference to parent"
    with pytest.raises(StageError, match=words):
        run(second)
    assert not folder_of_policy(second).exists()
    third = make_run(tmp_path / "3", tiny_base, parent=parent, ppo={"kl": kl, "reference": "parent", "updates": 1})
    run(third)
    assert folder_of_policy(third).exists()


def test_the_start_too_is_past_the_stop_only_if_a_second_rollout_says_so(tmp_path, tiny_base, monkeypatch):
    first = make_run(tmp_path / "1", tiny_base, ppo={"updates": 5, "learning_rate": 0.03})
    run(first)
    monkeypatch.setattr("trainer.rlhf.ppo.look_again", lambda job, update, measured, clock: measured._replace(kl=0.01))
    parent = str(first.path / "ppo" / "policy")
    second = make_run(tmp_path / "2", tiny_base, parent=parent, ppo={"updates": 1, "kl": {"stop": 0.02}})
    run(second)
    assert manifest_of(second)["history"]["kl"][0] == 0.01


def test_a_kl_past_the_stop_is_the_mean_of_two_rollouts(tmp_path, tiny_base):
    folder = make_run(tmp_path, tiny_base, ppo={"updates": 3})
    job = prepare(folder, folder.config, HAS_E)
    with torch.no_grad():
        for parameter in job.parameters.values():
            parameter.add_(0.3)
    first, second = (look(job, update, Clock()).measured for update in (2, 3 + 1 + 2))
    assert first.kl != second.kl
    again = look_again(job, 2, first, Clock())
    assert again.kl == again.metrics["objective/kl"] == pytest.approx((first.kl + second.kl) / 2)
    assert again.score == first.score


def test_a_run_goes_on_where_the_second_rollout_says_that_the_first_was_chance(tmp_path, tiny_base, monkeypatch):
    """The second look is faked; the tests of the stop take it for real."""
    monkeypatch.setattr("trainer.rlhf.ppo.look_again", lambda job, update, measured, clock: measured._replace(kl=0.1))
    kl = {"coef": 0.0, "stop": 0.5}
    folder = make_run(tmp_path, tiny_base, ppo={"updates": 8, "learning_rate": 0.05, "kl": kl})
    run(folder)
    manifest = manifest_of(folder)
    assert manifest["stopped_because"] == "complete"
    assert 0.1 in manifest["history"]["kl"]
    assert max(manifest["history"]["kl"]) <= 0.5


def test_it_asks_the_judge_before_it_looks_at_the_kl(tmp_path, tiny_base):
    folder = make_run(tmp_path, tiny_base, ppo={"judge_patience": 2, "kl": {"stop": 0.2}})
    job, progress = prepare(folder, folder.config, HAS_E), Progress()
    rollout = sample_prompts(job, 1)
    measured = measure(job, rollout, observe_rollout(job, rollout))
    progress.history = {"kl": [0.0, 0.1, 0.1], "scores": [0.0, 0.1, 0.5], "judge": [1.0, 1.1, 0.2]}
    over = measured._replace(kl=0.3, score=0.6, judge=0.1)
    assert reason_to_stop(folder.config.ppo, progress, over) == "judge"
    assert reason_to_stop(folder.config.ppo, progress, over._replace(judge=1.2)) == "kl"
    assert reason_to_stop(folder.config.ppo, progress, over._replace(judge=1.2, kl=0.2)) is None


def test_a_run_may_add_only_its_share_to_the_kl():
    assert kl_limit(KLConfig(stop=9.0, rise=5.0), 0.0) == 5.0
    assert kl_limit(KLConfig(stop=9.0, rise=5.0), 4.8) == 9.0
    assert kl_limit(KLConfig(stop=9.0, rise=None), 4.8) == 9.0
    assert kl_limit(KLConfig(stop=None, rise=5.0), 4.0) == 9.0
    assert kl_limit(KLConfig(stop=None, rise=None), 4.0) == math.inf


def test_a_completion_cut_before_its_end_gets_the_penalty_it_was_told(tmp_path, tiny_base):
    plain = run(make_run(tmp_path / "a", tiny_base, ppo={"updates": 1}), "nothing")[0]
    harsh = {"updates": 1, "score": {"no_eos_penalty": -3.0}}
    found = run(make_run(tmp_path / "b", tiny_base, ppo=harsh), "nothing")[0]
    assert plain["ppo/returns/mean"] == pytest.approx(0, abs=1e-3)
    assert found["length/clipped_share"] > 0.5
    assert found["ppo/returns/mean"] < -1


def test_the_tail_of_demonstrations_lowers_their_loss(tmp_path, tiny_base):
    folder = make_run(tmp_path, tiny_base, ppo={"updates": 6, "loss": {"ptx": 1.0}})
    turn = {"role": "assistant", "content": "The garden is full of birds."}
    demonstration = {"messages": [{"role": "user", "content": "What do you see?"}, turn]}
    (folder.path / "demonstrations.jsonl").write_text(json.dumps(demonstration) + "\n")
    losses = [update["ppo/loss/ptx"] for update in run(folder, "nothing")]
    assert losses[-1] < losses[0] - 0.5


def test_each_step_imitates_demonstrations_of_its_own(tmp_path, tiny_base, monkeypatch):
    ppo = {"updates": 2, "prompts": 2, "minibatches": 2, "epochs": 2, "loss": {"ptx": 1.0}}
    folder = make_run(tmp_path, tiny_base, ppo=ppo, sft={"max_tokens": 40})
    turns = [f"There are {number} birds." + " Sing!" * number for number in range(30)]
    lines = [{"messages": [ask("What do you see?"), {"role": "assistant", "content": turn}]} for turn in turns]
    (folder.path / "demonstrations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    drawn, real = [], imitation.backward_imitation

    def spy(policy, conversations, **settings):
        drawn.append(sorted(tuple(item.input_ids) for item in conversations))
        return real(policy, conversations, **settings)

    monkeypatch.setattr(imitation, "backward_imitation", spy)
    run(folder, "nothing")
    assert len(drawn) == 8 and len({str(batch) for batch in drawn}) == 8
    assert max(len(ids) for batch in drawn for ids in batch) == 40, "what is longer is cut, as sft cuts it"


def test_without_demonstrations_the_tail_is_a_corpus(tmp_path, tiny_base):
    folder = make_run(tmp_path, tiny_base, ppo={"updates": 4, "loss": {"ptx": 1.0}}, pretrain={"block_tokens": 16})
    with pytest.raises(StageError, match="neither demonstrations.jsonl nor a corpus"):
        prepare(folder, folder.config, HAS_E)
    (folder.path / "corpus.txt").write_text("The garden is full of birds.\n\n" * 9)
    losses = [update["ppo/loss/ptx"] for update in run(folder, "nothing")]
    assert losses[-1] < losses[0] - 0.5


def test_the_tail_of_demonstrations_lowers_forgetting(tmp_path, tiny_base):
    """A reward for brevity drives a fine-tuned policy from what it was taught; with ptx it keeps more of that."""
    turn = {"role": "assistant", "content": "The garden is full of birds."}
    demonstration = {"messages": [{"role": "user", "content": "What do you see?"}, turn]}

    def folder_with(name: str, **config):
        folder = make_run(tmp_path / name, tiny_base, **config)
        (folder.path / "demonstrations.jsonl").write_text(json.dumps(demonstration) + "\n")
        return folder

    def loss_of(adapter) -> float:
        policy = load_policy(tiny_base, adapter=adapter, dtype="float32", device="cpu")
        conversation = encode_conversation(policy.tokenizer, demonstration["messages"])
        with torch.no_grad():
            return float(conversation_loss(policy, [conversation])) / sum(conversation.is_assistant[1:])

    taught = folder_with("taught", sft={"epochs": 40, "learning_rate": 0.02})
    run_sft(taught, StopSignal())
    parent = taught.path / "sft" / "policy"
    losses = {}
    for ptx in (0.0, 0.5):
        ppo = {"updates": 10, "samples": 8, "learning_rate": 0.02, "kl": {"coef": 0.0, "stop": None, "rise": None}}
        folder = folder_with(str(ptx), parent=str(parent), ppo=ppo | {"loss": {"ptx": ptx}})
        found = run(folder, "short")
        assert found[-1]["objective/scores"] > found[0]["objective/scores"] + 0.5
        losses[ptx] = loss_of(folder.path / "ppo" / "policy")
    assert loss_of(parent) < 0.5 * loss_of(None)
    assert losses[0.0] > loss_of(parent) + 1
    assert losses[0.5] < loss_of(parent) + 0.5


def test_full_weights_train_beside_a_frozen_reference(tmp_path, tiny_base):
    folder = make_run(tmp_path, tiny_base, lora=None, ppo={"updates": 4, "learning_rate": 0.003})
    found = run(folder)
    assert found[0]["objective/kl"] == pytest.approx(0, abs=1e-4)
    assert found[-1]["objective/kl"] > 0.01
    assert (folder.path / "ppo" / "policy" / "model.safetensors").exists()


def test_a_run_starts_from_its_parent_and_measures_against_what_it_is_told(tmp_path, tiny_base):
    first = make_run(tmp_path / "1", tiny_base, ppo={"updates": 5, "learning_rate": 0.03})
    run(first)
    parent = str(first.path / "ppo" / "policy")
    second = make_run(tmp_path / "2", tiny_base, parent=parent, ppo={"updates": 1})
    third = make_run(tmp_path / "3", tiny_base, parent=parent, ppo={"updates": 1, "reference": "parent"})
    assert run(second)[0]["objective/kl"] > 0.05
    assert run(third)[0]["objective/kl"] == pytest.approx(0, abs=1e-4)


def test_it_says_what_is_missing(tmp_path, tiny_base):
    folder = make_run(tmp_path, tiny_base)
    with pytest.raises(StageError, match="run the reward stage first"):
        prepare(folder, folder.config, None)
    few = make_run(tmp_path / "few", tiny_base, ppo={"prompts": 2, "minibatches": 4})
    with pytest.raises(StageError, match="ppo.prompts is 2: too few for 4 minibatches"):
        prepare(few, few.config, HAS_E)
    returned = {
        "broken": "[nan, ",
        "beyond_fp32": "[1e+39, ",
        "words": "['good', ",
        "no_answer": "None",
        "numbers_too_few": "[0.0]",
        "by_number": "{0: 0.0, ",
    }
    for useless, start in returned.items():
        with pytest.raises(StageError, match=re.escape(f"8 finite numbers, one a completion, not {start}")):
            run(folder, useless)
    with pytest.raises(ConfigError, match="^--reward: tests.rlhf.rewards:calls is no function$"):
        run(folder, "calls")
    hasty = make_run(tmp_path / "hasty", tiny_base, ppo={"judge_patience": 1})
    with pytest.raises(StageError, match="ppo.judge_patience is 1: the judge's noise is told from two updates"):
        prepare(hasty, hasty.config, HAS_E)
    whole = make_run(tmp_path / "whole", tiny_base, parent=str(tiny_base))
    with pytest.raises(StageError, match="the parent is a whole model, but lora is set"):
        prepare(whole, whole.config, HAS_E)


@pytest.mark.parametrize("minibatches", [1, 2])
def test_it_fails_in_words_where_the_gradient_is_lost(tmp_path, tiny_base, minibatches):
    ppo = {"updates": 3, "learning_rate": 1e30, "minibatches": minibatches}
    with pytest.raises(StageError, match="not finite: lower the learning rate"):
        run(make_run(tmp_path, tiny_base, ppo=ppo))


def test_its_metrics_are_finite_and_named_as_the_field_names_them(tmp_path, tiny_base):
    found = run(make_run(tmp_path, tiny_base))[-1]
    assert all(math.isfinite(value) for value in found.values())
    assert found.keys() >= {
        "objective/kl",
        "objective/kl_coef",
        "objective/entropy",
        "objective/scores",
        "ppo/policy/approxkl",
        "ppo/policy/clipfrac",
        "ppo/val/var_explained",
        "length/mean",
        "length/p95",
        "length/clipped_share",
        "perplexity/reference",
        "text/distinct_2",
        "text/duplicates",
        "scores/outside_training_range",
        "tokens_per_second/rollout",
        "flops_share/rollout",
        "flops_share/observe",
        "flops_share/policy",
        "flops_share/critic",
    }
