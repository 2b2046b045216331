"""Two processes take the same steps as one."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from tests.rlhf.run_folders import make_run, metrics, run, with_reward_model, with_two_processes
from tests.rlhf.test_supervised import with_demonstrations
from trainer.rlhf.evaluation import run_evaluate
from trainer.rlhf.folder import RunFolder, StopSignal
from trainer.rlhf.ppo import run_ppo
from trainer.rlhf.processes import Processes

HAS_E = "tests.rlhf.rewards:has_e_of_two"


def test_two_processes_give_the_metrics_and_weights_of_one(tmp_path, tiny_base):
    settings = {
        "updates": 2,
        "prompts": 8,
        "samples": 3,
        "minibatches": 2,
        "kl": {"target": 1.0, "stop": None, "rise": None},
    }
    alone, shared = (make_run(tmp_path / name, tiny_base, ppo=settings) for name in ("alone", "shared"))
    run(alone)
    with_two_processes("ppo", shared.path, "--reward", HAS_E)
    agree(alone, shared)


def test_two_processes_start_a_critic_as_the_reward_model_as_one_does(tmp_path, tiny_base):
    critic = {"kind": "adapter", "pretrain_steps": 2, "pretrain_until": 1.0}
    settings = {"updates": 2, "prompts": 8, "samples": 3, "minibatches": 2, "critic": critic}
    alone, shared = (make_run(tmp_path / name, tiny_base, ppo=settings) for name in ("alone", "shared"))
    for folder in (alone, shared):
        with_reward_model(folder, tiny_base, pooling="last", kind="lora")
    run_ppo(alone, StopSignal())
    with_two_processes("ppo", shared.path)
    agree(alone, shared)


def test_two_processes_train_every_weight_and_imitate_as_one_does(tmp_path, tiny_base):
    settings = {"updates": 2, "prompts": 8, "samples": 3, "minibatches": 2, "learning_rate": 1e-4, "loss": {"ptx": 0.5}}
    alone, shared = (make_run(tmp_path / name, tiny_base, lora=None, ppo=settings) for name in ("alone", "shared"))
    for folder in (alone, shared):
        with_demonstrations(folder)
    run(alone)
    with_two_processes("ppo", shared.path, "--reward", HAS_E)
    agree(alone, shared, "model.safetensors")
    start = load_file(tiny_base / "model.safetensors")
    trained = load_file(alone.path / "ppo/policy/model.safetensors")
    assert any(not torch.equal(trained[name], start[name]) for name in start), "nothing was learned to agree on"


def agree(alone: RunFolder, shared: RunFolder, product: str = "adapter_model.safetensors") -> None:
    """Asserts that the metrics of every update and the published weights are the same but for rounding."""
    for one, two in zip(metrics(alone), metrics(shared), strict=True):
        for name, value in one.items():
            if not name.startswith(("seconds/", "tokens_per_second/", "flops_share/")):
                assert two[name] == pytest.approx(value, rel=2e-3, abs=2e-4), name
    first, second = (load_file(folder.path / "ppo/policy" / product) for folder in (alone, shared))
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, atol=2e-3, rtol=2e-2)


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
