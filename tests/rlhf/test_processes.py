"""Two processes take the same steps as one."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.rlhf.run_folders import make_run, run, with_reward_model, with_two_processes
from tests.rlhf.test_masked_lm import with_corpus
from tests.rlhf.test_supervised import with_demonstrations
from trainer.rlhf.evaluation import run_evaluate
from trainer.rlhf.folder import RunFolder, StopSignal
from trainer.rlhf.policy import load_policy
from trainer.rlhf.ppo import run_ppo
from trainer.rlhf.pretrain import run_pretrain
from trainer.rlhf.processes import Processes
from trainer.rlhf.sft import run_sft

HAS_E = "tests.rlhf.rewards:has_e_of_two"
RUNS = ("alone", "shared")
ADAPTER, WEIGHTS = "adapter_model.safetensors", "model.safetensors"


def test_two_processes_give_the_metrics_and_weights_of_one(tmp_path, tiny_base):
    settings = {
        "updates": 2,
        "prompts": 8,
        "samples": 3,
        "minibatches": 2,
        "kl": {"target": 1.0, "stop": None, "rise": None},
    }
    alone, shared = (make_run(tmp_path / name, tiny_base, ppo=settings) for name in RUNS)
    run(alone)
    with_two_processes("ppo", shared.path, "--reward", HAS_E)
    agree(alone, shared)


@pytest.mark.parametrize(("kind", "reward"), [("adapter", "lora"), ("full", "full")])
def test_two_processes_start_a_critic_as_the_reward_model_as_one_does(tmp_path, tiny_base, kind, reward):
    critic = {"kind": kind, "pretrain_steps": 2, "pretrain_until": 1.0}
    settings = {"updates": 2, "prompts": 8, "samples": 3, "minibatches": 2, "critic": critic}
    alone, shared = (make_run(tmp_path / name, tiny_base, ppo=settings) for name in RUNS)
    for folder in (alone, shared):
        with_reward_model(folder, tiny_base, pooling="last", kind=reward)
    run_ppo(alone, StopSignal())
    with_two_processes("ppo", shared.path)
    agree(alone, shared)


def test_two_processes_train_every_weight_and_imitate_as_one_does(tmp_path, tiny_base):
    settings = {"updates": 2, "prompts": 8, "samples": 3, "minibatches": 2, "learning_rate": 1e-4, "loss": {"ptx": 0.5}}
    alone, shared = (make_run(tmp_path / name, tiny_base, lora=None, ppo=settings) for name in RUNS)
    for folder in (alone, shared):
        with_demonstrations(folder)
    run(alone)
    with_two_processes("ppo", shared.path, "--reward", HAS_E)
    agree(alone, shared, WEIGHTS)


def test_two_processes_fine_tune_as_one_does(tmp_path, tiny_base):
    """Of three conversations, two a step, the second step has one: nothing is left for the second process."""
    sft = {"epochs": 2, "conversations_per_step": 2, "learning_rate": 1e-3}
    alone, shared = (with_demonstrations(make_run(tmp_path / name, tiny_base, sft=sft)) for name in RUNS)
    run_sft(alone, StopSignal())
    with_two_processes("sft", shared.path)
    agree(alone, shared, stage="sft")


@pytest.mark.parametrize("base", ["tiny_base", "tiny_bert"])
def test_two_processes_pre_train_as_one_does(tmp_path, request, base):
    settings = {"epochs": 2, "block_tokens": 16, "blocks_per_step": 3, "learning_rate": 1e-3}
    base = request.getfixturevalue(base)
    alone, shared = (with_corpus(make_run(tmp_path / name, base, lora=None, pretrain=settings)) for name in RUNS)
    run_pretrain(alone, StopSignal())
    with_two_processes("pretrain", shared.path)
    agree(alone, shared, WEIGHTS, stage="pretrain")


def agree(alone: RunFolder, shared: RunFolder, product: str = ADAPTER, *, stage: str = "ppo") -> None:
    """Asserts that each step's metrics, its gradient's norm too, and the way of each weight are the same.

    Of a tensor's change from where both began, at most a tenth may differ: one that the second run left alone differs
    by the whole, and one that it moved half as far by a half. A bias of keys adds the same to all of a query's logits:
    its gradient is rounding alone, which Adam turns into steps.
    """
    first, second = ([record["metrics"] for record in folder.log(stage).records()] for folder in (alone, shared))
    assert len(first) > 1
    for one, two in zip(first, second, strict=True):
        for name, value in one.items():
            if not name.startswith(("seconds/", "tokens_per_second/", "flops_share/")):
                assert two[name] == pytest.approx(value, rel=2e-3, abs=2e-4), name
    first, second = (load_file(folder.path / stage / "policy" / product) for folder in (alone, shared))
    start = beginning(alone, product)
    changes = {name: float((tensor - start[name]).norm()) for name, tensor in first.items()}
    assert sum(change > 0 for change in changes.values()) > len(changes) / 2, "little was learned to agree on"
    for name, change in changes.items():
        if not name.endswith("key.bias"):
            assert float((second[name] - first[name]).norm()) <= 0.1 * change + 1e-7, name


def beginning(folder: RunFolder, product: str) -> dict[str, torch.Tensor]:
    """What a stage without a parent trains, before its first step."""
    if product == WEIGHTS:
        return load_file(Path(folder.config.base_model) / WEIGHTS)
    policy = load_policy(folder.config.base_model, dtype="float32", device="cpu")
    policy.new_adapter("policy", folder.config.lora, seed=folder.config.seed)
    return {name: tensor.detach() for name, tensor in policy.adapter_parameters("policy").items()}


def test_two_processes_write_the_evaluation_of_one(tmp_path, tiny_base):
    alone = make_run(tmp_path / "alone", tiny_base, prompts=16)
    run(alone)
    shared = RunFolder(shutil.copytree(alone.path, tmp_path / "shared"))
    run_evaluate(alone, StopSignal(), reward="tests.rlhf.rewards:has_e")
    with_two_processes("evaluate", shared.path, "--reward", HAS_E)
    assert shared.product("evaluate").read_text() == alone.product("evaluate").read_text()
    assert len(shared.log("evaluate").records()) == 1  # of the two chunks, the other process wrote one


def test_a_single_process_sums_and_gathers_what_it_has():
    alone = Processes()
    assert alone.sum(torch.tensor([1.0, 2.0])).tolist() == [1.0, 2.0]
    assert alone.gather({2: "b", 0: "a"}) == ["a", "b"]
    assert alone.is_first
