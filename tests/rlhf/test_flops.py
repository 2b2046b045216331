"""FLOPs of an update: counted by hand, beside torch's own counter, and what a run logs of them."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.rlhf.run_folders import make_run, run, with_reward_model
from trainer.rlhf.experience import Actor, Rollout, completion_logprobs, layouts
from trainer.rlhf.flops import (
    Size,
    Work,
    critic_flops,
    matmul_peak,
    observe_flops,
    packed_work,
    policy_flops,
    rollout_flops,
    sampling_work,
    size_of,
)
from trainer.rlhf.packing import Group
from trainer.rlhf.policy import load_policy
from trainer.rlhf.ppo import look, observe_rollout
from trainer.rlhf.ppo_job import Clock, prepare

HAS_E = "tests.rlhf.rewards:has_e"


def test_it_counts_the_tokens_and_the_pairs_that_see_each_other():
    """Prompts of 3 and 1 tokens; completions of 2 and 1, and of 2."""
    groups = [Group([1, 2, 3], [[4, 5], [6]]), Group([1], [[4, 5]])]
    assert packed_work(groups) == Work(tokens=6 + 3, pairs=(6 + (2 * 3 + 3) + (3 + 1)) + (1 + (2 + 3)), predicted=3 + 2)
    assert sampling_work(groups) == Work(tokens=4 + 2, pairs=(6 + (3 + 1)) + (1 + (1 + 1)), predicted=(1 + 1) + (1 + 1))


def test_it_counts_the_weights_of_a_model_by_hand(tiny_base, tiny_gpt2):
    llama, gpt2 = (Actor(load_policy(path, dtype="float32", device="cpu"), None) for path in (tiny_base, tiny_gpt2))
    vocabulary = len(llama.policy.tokenizer)
    block = 32 * 32 + 2 * 32 * 16 + 32 * 32 + 3 * 32 * 64  # q; k and v of half the heads; o; gate, up, down
    assert size_of(llama) == Size(2 * block, 0, 32 * vocabulary, 4 * 2 * 4 * 8)
    block = 32 * 96 + 32 * 32 + 2 * 32 * 128
    assert size_of(gpt2) == Size(2 * block, 0, 32 * vocabulary, 4 * 2 * 32)


def test_it_counts_the_adapter_that_acts_and_no_other(tmp_path, tiny_base):
    folder = make_run(tmp_path, tiny_base)
    actor = prepare(folder, folder.config, HAS_E).actor
    actor.policy.new_adapter("critic", folder.config.lora, seed=3)
    rank, ends = 4, (32 + 32) + 2 * (32 + 16) + (32 + 32) + 3 * (32 + 64)
    assert size_of(actor).adapter == 2 * rank * ends
    assert size_of(actor)[0] == size_of(Actor(actor.policy, None))[0]
    assert size_of(Actor(actor.policy, None)).adapter == 0


def products(counter: FlopCounterMode) -> int:
    """FLOPs of plain matrix products; the batched ones are attention's."""
    found = counter.get_flop_counts()["Global"].items()
    return sum(flops for operator, flops in found if str(operator) in ("aten.mm", "aten.addmm"))


@pytest.mark.parametrize("lora", [{"r": 4, "alpha": 8}, None])
def test_torchs_own_counter_finds_the_products_of_a_policy_step(tmp_path, tiny_base, lora):
    """One prompt, one completion: no padding. Attention is left out, whose masked pairs torch counts too."""
    folder = make_run(tmp_path, tiny_base, lora=lora, ppo={"prompts": 1, "samples": 1, "minibatches": 1})
    job = prepare(folder, folder.config, HAS_E)
    rollout: Rollout = look(job, 1, Clock()).rollout
    (layout,) = layouts(rollout, [0], pad_id=job.pad_id, max_tokens=1000)
    with FlopCounterMode(display=False) as counter:
        found, _ = completion_logprobs(job.actor, rollout, layout, temperature=1.0)
        found.logprobs.sum().backward()
    work, size = packed_work(rollout.groups), size_of(job.actor)
    counted = policy_flops(job, rollout) - 3 * size.attention * work.pairs
    assert counted == size._replace(attention=0).training(work, is_full=lora is None)
    again = 2 * size.head * work.predicted  # a trained head makes its logits twice
    first = 2 * (32 * 32 + 2 * 32 * 16 + 3 * 4 * 32) * work.tokens  # of q, k, v: frozen embeddings need no gradient
    assert products(counter) == counted + (again if lora is None else -first)


def test_torchs_own_counter_finds_the_products_of_observing(tmp_path, tiny_base):
    folder = make_run(tmp_path, tiny_base, ppo={"prompts": 1, "samples": 1, "minibatches": 1})
    with_reward_model(folder, tiny_base)
    job = prepare(folder, folder.config, None)
    rollout = look(job, 1, Clock()).rollout
    with FlopCounterMode(display=False) as counter:
        observe_rollout(job, rollout)
    work, size = packed_work(rollout.groups), size_of(job.reference)
    assert products(counter) == pytest.approx(observe_flops(job, rollout) - size.attention * work.pairs, rel=0.03)


def test_sampling_reads_every_token_but_the_last_and_folds_the_adapter_in(tmp_path, tiny_base):
    folder = make_run(tmp_path, tiny_base)
    job = prepare(folder, folder.config, HAS_E)
    rollout = look(job, 1, Clock()).rollout
    size, work = size_of(job.actor), sampling_work(rollout.groups)
    assert work.tokens == packed_work(rollout.groups).tokens - len(rollout.samples)
    flops = 2 * size.trunk * work.tokens + size.attention * work.pairs + 2 * size.head * work.predicted
    assert rollout_flops(job, rollout) == flops


@pytest.mark.parametrize("kind", ["head", "adapter", "full"])
def test_a_critic_costs_as_much_as_what_it_trains(tmp_path, tiny_base, kind):
    folder = make_run(tmp_path, tiny_base, ppo={"critic": {"kind": kind}})
    job = prepare(folder, folder.config, HAS_E)
    rollout = look(job, 1, Clock()).rollout
    work = packed_work(rollout.groups)
    trunk, attention = size_of(job.actor).trunk, size_of(job.actor).attention
    states = sum(len(sample.token_ids) + 1 for sample in rollout.samples)
    expected = {
        "head": (2 + 4) * 32 * states,
        "adapter": (2 + 4) * trunk * work.tokens + (2 + 6) * size_of(job.actor).adapter * work.tokens,
        "full": (2 + 6) * trunk * work.tokens,
    }[kind]
    assert critic_flops(job, rollout) == expected + (0 if kind == "head" else 4 * attention * work.pairs)


def test_a_run_logs_the_share_of_each_phase(tmp_path, tiny_base, monkeypatch):
    monkeypatch.setattr("trainer.rlhf.ppo.matmul_peak", lambda dtype, device: 1e9)
    folder = make_run(tmp_path, tiny_base, ppo={"updates": 2})
    first, second = run(folder)
    shares = {name: value for name, value in second.items() if name.startswith("flops_share/")}
    assert shares.keys() == {f"flops_share/{phase}" for phase in ("rollout", "observe", "policy", "critic")}
    assert all(value > 0 for value in shares.values())
    assert {name.split("/")[1] for name in first if name.startswith("seconds/")} - {
        name.split("/")[1] for name in second if name.startswith("seconds/")
    } == {"warm_up"}


def test_a_share_is_flops_over_seconds_over_the_peak():
    clock = Clock()
    clock.seconds = {"rollout": 2.0, "policy": 4.0, "critic": 0.0}
    for phase, flops in (("rollout", 6e9), ("policy", 1e9), ("policy", 3e9), ("critic", 1.0)):
        clock.count(phase, flops)
    assert clock.shares(1e10) == {"flops_share/rollout": 0.3, "flops_share/policy": 0.1}


def test_the_peak_is_that_of_a_product_and_changes_no_draw():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    matmul_peak.cache_clear()
    peak = matmul_peak(torch.float32)
    assert torch.equal(torch.rand(3), expected)
    assert 1e8 < peak < 1e16
    assert matmul_peak(torch.float32) == peak  # measured once a process
