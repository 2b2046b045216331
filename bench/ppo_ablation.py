"""Each piece of PPO-max on and off, over seeds, on a small task: what it buys in score and costs in KL.

    python -m bench.ppo_ablation [--seeds 6] [--updates 12] [--only "no policy clip; 2 epochs"]

The policy is the tests' tiny Llama (fp32), the reward a random mean-pooled head on its own frozen features, so a run
takes seconds. The table gives the rise of the score in standard deviations of the base's scores, the KL it cost, and
the rise per root of KL, on which methods that move at different speeds can be compared. A seed draws the reward, and
some rewards are easier than others, so the last column compares seed by seed: the rate less the default's of the same
seed, with the standard error of its mean. A tiny random model is no language model: what a row says about signal and
noise carries over, what it says about text does not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from tests.tiny_models import TEXT, make_llama
from trainer.rlhf.folder import RunFolder, StopSignal
from trainer.rlhf.policy import load_policy
from trainer.rlhf.ppo import run_ppo
from trainer.rlhf.reward_head import Reading, RewardHead
from trainer.rlhf.reward_model import RewardModel, save_reward_model

CRITIC_RATE = 3e-3  # a head's default, for trunks too: a model this small learns at rates a large one could not
OFF = 1e3  # a clip that no ratio and no gradient here comes near
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "score at the end": {"score": {"is_dense": False}},
    "score at the end, lambda 1": {"score": {"is_dense": False}, "advantage": {"lam": 1.0}},
    "scores not normalised": {"score": {"is_normalised": False}},
    "scores clipped at 0.8": {"score": {"clip": 0.8}},
    "advantages not whitened": {"advantage": {"is_whitened": False}},
    "no value clip": {"loss": {"value_clip": None}},
    "critic not pre-trained": {"critic": {"pretrain_steps": 0}, "warmup_updates": 0},
    "critic adapter at 3e-3": {"critic": {"kind": "adapter", "learning_rate": CRITIC_RATE}},
    "critic full at 3e-3": {"critic": {"kind": "full", "learning_rate": CRITIC_RATE}},
    "critic adapter": {"critic": {"kind": "adapter"}},
    "critic full": {"critic": {"kind": "full"}},
    "truncation bootstrap": {"advantage": {"truncation": "bootstrap"}},
    "no policy clip": {"loss": {"clip": OFF}},
    "no gradient clip": {"max_grad_norm": OFF},
    "entropy 0.01": {"loss": {"entropy": 0.01}},
    "ptx 0.1": {"loss": {"ptx": 0.1}},
    "ptx 1": {"loss": {"ptx": 1.0}},
    "log-probabilities recomputed": {"old_logprobs": "recompute"},
    "warm-up of 3 updates": {"warmup_updates": 3},
    "1 minibatch": {"minibatches": 1},
    "2 epochs": {"epochs": 2},
    "2 epochs, no policy clip": {"epochs": 2, "loss": {"clip": OFF}},
    "KL steered to 4": {"kl": {"target": 4.0, "horizon": 48}},
    "KL coefficient 0": {"kl": {"coef": 0.0}},
    "KL coefficient 0.4": {"kl": {"coef": 0.4}},
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ppo_ablation", description="PPO-max, piece by piece.")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--updates", type=int, default=12)
    parser.add_argument(
        "--only", help="variants to run beside the default, by name, with semicolons between (default: all)"
    )
    options = parser.parse_args()
    variants = chosen(options.only)
    transformers_logging.disable_progress_bar()
    headings = ["variant", "rise of the score (sd)", "KL (nats)", "rise / sqrt KL", "… less the default's"]
    print(f"| {' | '.join(headings)} |\n|{'---|' * len(headings)}")
    defaults: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        base = make_llama(Path(name) / "base")
        for variant, settings in variants.items():
            runs = [
                one_run(Path(name) / f"{variant}-{seed}", base, settings, seed, options.updates)
                for seed in range(1, options.seeds + 1)
            ]
            rises, kls = zip(*runs, strict=True)
            rates = [rise / kl**0.5 for rise, kl in runs]
            defaults = defaults or rates
            gaps = [rate - default for rate, default in zip(rates, defaults, strict=True)]
            error = statistics.stdev(gaps) / len(gaps) ** 0.5 if len(gaps) > 1 else 0.0
            columns = [_spread(rises), _spread(kls), _spread(rates), f"{statistics.mean(gaps):+.2f} ± {error:.2f}"]
            print(f"| {variant} | {' | '.join(columns)} |", flush=True)


def chosen(names: str | None) -> dict[str, dict[str, Any]]:
    """The default, which all others are compared with, and the named variants; all where none is named."""
    if names is None:
        return VARIANTS
    wanted = dict.fromkeys(["default", *(name.strip() for name in names.split(";"))])
    if unknown := [name for name in wanted if name not in VARIANTS]:
        raise SystemExit(f"unknown: {', '.join(unknown)}; known are {', '.join(VARIANTS)}")
    return {name: VARIANTS[name] for name in wanted}


def one_run(path: Path, base: Path, settings: dict[str, Any], seed: int, updates: int) -> tuple[float, float]:
    """One whole ppo stage; (rise of the score in the base's standard deviations, final KL)."""
    path.mkdir()
    folder = RunFolder(path)
    prompts = [{"messages": [{"role": "user", "content": f"Say {number} things"}]} for number in range(12)]
    (path / "prompts.jsonl").write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts), encoding="utf-8")
    (path / "demonstrations.jsonl").write_text(
        "".join(json.dumps(each) + "\n" for each in demonstrations()), encoding="utf-8"
    )
    ppo = {"updates": updates, "prompts": 12, "samples": 4, "learning_rate": 0.01} | settings
    ppo["kl"] = {"stop": None, "rise": None} | settings.get("kl", {})
    config = {
        "base_model": str(base),
        "dtype": "float32",
        "seed": seed,
        "max_completion_tokens": 16,
        "lora": {"r": 4, "alpha": 8},
        "ppo": ppo,
    }
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    policy = load_policy(base, dtype="float32", device="cpu")
    weight = torch.randn(policy.model.config.hidden_size, generator=torch.Generator().manual_seed(seed))
    head = RewardHead((Reading("mean", 1),), weight[None])
    save_reward_model(RewardModel("probe", policy, policy, head, None, {}), folder.stage("reward") / "model", {})
    run_ppo(folder, StopSignal())
    first = next(record["metrics"] for record in folder.log("ppo").records() if record["metrics"])
    history = json.loads((folder.product("ppo")).read_text(encoding="utf-8"))["history"]
    rise = (history["scores"][-1] - history["scores"][0]) / first["objective/scores_std"]
    return rise, max(history["kl"][-1], 1e-6)


def demonstrations() -> list[dict[str, Any]]:
    """What `ptx` imitates: the sentences that the tiny tokenizer was made from, which the reward knows nothing of."""
    return [
        {"messages": [{"role": "user", "content": f"Say {number} things"}, {"role": "assistant", "content": text}]}
        for number, text in enumerate(TEXT)
    ]


def _spread(values: tuple[float, ...] | list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"


if __name__ == "__main__":
    main()
