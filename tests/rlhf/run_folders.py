"""Run folders for the tests: a tiny base, a few prompts, small numbers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from trainer.rlhf.config import LoraConfig, RunConfig, parse
from trainer.rlhf.folder import RunFolder, StopSignal
from trainer.rlhf.policy import load_policy
from trainer.rlhf.ppo import run_ppo
from trainer.rlhf.reward_head import Reading, RewardHead
from trainer.rlhf.reward_model import RewardModel, save_reward_model

SMALL = {"updates": 3, "prompts": 4, "samples": 2, "learning_rate": 0.01, "kl": {"stop": None, "rise": None}}


def make_run(folder: Path, base: Path, *, prompts: int = 8, ppo: dict | None = None, **config) -> RunFolder:
    """A run folder with every fourth prompt held out."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        {
            "id": str(number),
            "messages": [{"role": "user", "content": f"Say {number} things about {'rain ' * (number % 3)}"}],
            "split": "held_out" if number % 4 == 3 else "train",
        }
        for number in range(prompts)
    ]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    record = {
        "base_model": str(base),
        "dtype": "float32",
        "max_completion_tokens": 6,
        "lora": {"r": 4, "alpha": 8},
        "ppo": SMALL | (ppo or {}),
    } | config
    parse(RunConfig, record)
    (folder / "config.json").write_text(json.dumps(record))
    return RunFolder(folder)


def run(folder: RunFolder, reward: str = "has_e") -> list[dict]:
    """Runs the whole ppo stage; the metrics of each update."""
    run_ppo(folder, StopSignal(), reward=f"tests.rlhf.rewards:{reward}")
    return metrics(folder)


def metrics(folder: RunFolder) -> list[dict]:
    return [record["metrics"] for record in folder.log("ppo").records() if record["metrics"]]


def with_reward_model(folder: RunFolder, base, *, pooling: str = "mean", kind: str = "probe") -> RewardModel:
    """Random heads for score and judge, at different layers; what a `lora` or `full` trunk learned is random too."""
    trunk = policy = load_policy(base, dtype="float32", device="cpu")
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(2, 32, generator=generator)
    heads = [
        RewardHead((Reading(pooling, layer),), weight[None], low=-1.0, high=1.0)
        for layer, weight in zip((1, 2), weights, strict=True)
    ]
    learned = []
    if kind == "lora":
        policy.new_adapter("reward", LoraConfig(r=2, alpha=4), seed=1)
        learned = policy.adapter_parameters("reward").values()
    elif kind == "full":
        trunk = load_policy(base, dtype="float32", device="cpu")
        learned = trunk.model.parameters()
    with torch.no_grad():
        for parameter in learned:
            parameter.add_(torch.empty_like(parameter).normal_(std=0.3, generator=generator))
    model = RewardModel(kind, trunk, policy, *heads, {})
    save_reward_model(model, folder.stage("reward") / "model", {})
    return model


def with_two_processes(stage: str, folder: Path, *options: str, program: str = "trainer.rlhf", code: int = 0) -> None:
    """Runs a stage under `accelerate launch`, which without --multi_gpu starts one process where there is no GPU."""
    launcher = ["accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--main_process_port=0"]
    done = subprocess.run(
        [sys.executable, "-m", *launcher, "-m", program, stage, str(folder), *options],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr
