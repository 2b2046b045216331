"""PPO against TRL's last PPO trainer: completion tokens a second over whole iterations, and peak memory.

    make bench-ppo               (python -m bench.ppo --help lists what can be changed)

TRL removed its PPO after 1.12, so the peer lives in an environment of its own, `.venv-trl112`, made by this command.
Both sides train LoRA (rank 16, every linear layer) on the default base on one device (`--device`: the processor) in the
dtype that it does well: the same prompts, 12 x 4 completions of at most 40 tokens an update, one epoch, two
minibatches, with a reward model and a critic. Ours are our defaults: heads on the frozen base, and a judge on top.
TRL's are what its trainer asks for: a sequence classifier as reward model and another one, trained in full, as critic.
Each run is a process of its own, the sides in turn; the first iteration, which also warms up, is not counted. Tokens
are those up to and with the stop token, not what was decoded after it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.default_base import add_base_options, prepare_base, use_device
from bench.peak import peak_gb
from bench.peer import PPO_PEER

PROMPTS_FILE = Path("annotate/starter/english.jsonl")
PROMPTS, SAMPLES, COMPLETION_TOKENS = 12, 4, 40
LEARNING_RATE = 2e-4
MICRO_BATCH = (
    12  # TRL's rows of one forward and backward; its rollouts are scored 48 at a time, under its default of 64
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ppo", description="PPO against TRL's.")
    add_base_options(parser)
    parser.add_argument("--pairs", type=int, default=3, help="pairs of runs")
    parser.add_argument("--updates", type=int, default=3, help="iterations that count, after one that does not")
    parser.add_argument("--phases", action="store_true", help="only where our time goes")
    parser.add_argument("--side", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        use_device(options.device)
        print(json.dumps(run_ours(options) if options.side == "ours" else run_theirs(options)))
    elif options.phases:
        phases(options)
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    """Runs both sides in turn and prints medians and ratios."""
    prepare_base(options)
    PPO_PEER.python()  # its environment is made before anything is measured
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "theirs": []}
    for number in range(options.pairs):
        for side in ("ours", "theirs") if number % 2 == 0 else ("theirs", "ours"):
            runs[side].append(_child(options, side))
            print(f"{side:6} {number + 1}: {_line(runs[side][-1])}", flush=True)
    medians = {side: _medians(results) for side, results in runs.items()}
    for side, result in medians.items():
        print(f"{side:6} median: {_line(result)}")
    same = ("--base", str(options.base), "--device", options.device, "--dtype", options.dtype)
    subprocess.run([sys.executable, "-m", "bench.ppo", "--phases", *same], check=True)
    ours, theirs = medians["ours"], medians["theirs"]
    print(f"ratio: {ours['tokens_per_second'] / theirs['tokens_per_second']:.2f}")
    print(f"memory-ratio: {ours['peak_gb'] / theirs['peak_gb']:.2f}")


def _child(options: argparse.Namespace, side: str) -> dict[str, Any]:
    python = sys.executable if side == "ours" else PPO_PEER.python()
    command = [python, "-m", "bench.ppo", "--side", side, "--base", str(options.base)]
    command += ["--device", options.device, "--dtype", options.dtype, "--updates", str(options.updates)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def _medians(results: list[dict[str, Any]]) -> dict[str, float]:
    return {name: statistics.median(result[name] for result in results) for name in results[0]}


def _line(result: dict[str, Any]) -> str:
    phases = ", ".join(f"{name[8:]} {value:.1f} s" for name, value in result.items() if name.startswith("seconds_"))
    return f"{result['tokens_per_second']:.1f} completion tokens/s, peak {result['peak_gb']:.2f} GB; {phases}"


def _result(device: str, seconds: list[float], tokens: list[int], **phases: float) -> dict[str, Any]:
    """Tokens a second over all counted iterations; the peak is the process's own."""
    return {
        "tokens_per_second": sum(tokens) / sum(seconds),
        "seconds_iteration": statistics.mean(seconds),
        "peak_gb": peak_gb(device),
    } | {f"seconds_{name}": value for name, value in phases.items()}


def _prompts() -> list[dict[str, Any]]:
    return [json.loads(line) for line in PROMPTS_FILE.read_bytes().splitlines()]


def our_run(path: Path, options: argparse.Namespace, *, updates: int) -> Any:
    """A run folder with a reward model and a judge that are random heads."""
    import torch

    from trainer.rlhf.folder import RunFolder
    from trainer.rlhf.policy import load_policy
    from trainer.rlhf.reward_head import Reading, RewardHead
    from trainer.rlhf.reward_model import RewardModel, save_reward_model

    folder = RunFolder(path)
    lines = [json.dumps(prompt | {"split": "train"}) + "\n" for prompt in _prompts()]
    (folder.path / "prompts.jsonl").write_text("".join(lines), encoding="utf-8")
    ppo = {
        "updates": updates,
        "prompts": PROMPTS,
        "samples": SAMPLES,
        "minibatches": 2,
        "epochs": 1,
        "learning_rate": LEARNING_RATE,
        "kl": {"stop": None, "rise": None},
    }
    config = {
        "base_model": str(options.base),
        "dtype": options.dtype,
        "max_completion_tokens": COMPLETION_TOKENS,
        "ppo": ppo,
    }
    (folder.path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    base = load_policy(options.base, dtype=options.dtype, device=options.device)
    layer = base.model.config.num_hidden_layers // 2 + 1
    weight = torch.randn(base.model.config.hidden_size, generator=torch.Generator().manual_seed(1))
    head = RewardHead((Reading("mean", layer),), weight[None] / 100)
    judge = head._replace(weight=head.weight.flip(1))
    save_reward_model(RewardModel("probe", base, base, head, judge, {}), folder.stage("reward") / "model", {})
    return folder


def phases(options: argparse.Namespace) -> None:
    """Our second update, phase by phase: achieved FLOP/s, then the profiler's shares."""
    from bench.processor import shares_by_kind
    from trainer.rlhf import ppo
    from trainer.rlhf.flops import matmul_peak
    from trainer.rlhf.ppo_job import Clock, Progress, prepare

    prepare_base(options)
    with tempfile.TemporaryDirectory() as name:
        folder = our_run(Path(name), options, updates=2)
        job = prepare(folder, folder.config, None)
        progress = Progress(kl_coef=job.config.ppo.kl.coef)
        peak = matmul_peak(job.actor.policy.model.dtype, job.base.device)
        clock = Clock()
        for update in (1, 2):
            clock = Clock()
            seen = ppo.look(job, update, clock)
            ppo.accept(job, progress, seen.measured)
            ppo.learn(job, progress, update, seen, clock, None)
        print(f"matmul peak ({options.dtype}): {peak / 1e9:.0f} GFLOP/s")
        work = {
            "sampling": ("rollout", lambda: ppo.sample_prompts(job, 3)),
            "scoring": ("observe", lambda: ppo.observe_rollout(job, seen.rollout)),
            "training": ("policy", lambda: ppo.learn(job, progress, 3, seen, Clock(), None)),
        }
        for name, (phase, again) in work.items():
            rate = clock.flops[phase] / clock.seconds[phase]
            rates = f"{clock.seconds[phase]:.1f} s, {rate / 1e9:.0f} GFLOP/s, {rate / peak:.0%} of the peak"
            print(f"{name}: {rates}; {shares_by_kind(again, options.device)}")


def run_ours(options: argparse.Namespace) -> dict[str, Any]:
    """A whole `ppo` stage with its checkpoints, reward model and judge."""
    from trainer.rlhf.folder import StopSignal
    from trainer.rlhf.ppo import run_ppo

    with tempfile.TemporaryDirectory() as name:
        folder = our_run(Path(name), options, updates=options.updates + 1)
        run_ppo(folder, StopSignal())
        records = [record for record in folder.log("ppo").records() if record["metrics"]]
        updates = [record["metrics"] for record in records][1:]
        times = [record["time"] for record in records]
    seconds = [after - before for before, after in zip(times, times[1:], strict=False)]
    tokens = [round(update["length/mean"] * PROMPTS * SAMPLES) for update in updates]
    phases = {
        name: statistics.mean(update[f"seconds/{name}"] for update in updates)
        for name in ("rollout", "observe", "policy", "critic")
    }
    return _result(options.device, seconds, tokens, **phases)


def run_theirs(options: argparse.Namespace) -> dict[str, Any]:
    """TRL's trainer on the same prompts; it samples, scores and trains in batches of rows."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        TrainerCallback,
    )
    from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

    torch.manual_seed(1)
    dtype = getattr(torch, options.dtype)
    tokenizer = AutoTokenizer.from_pretrained(options.base, padding_side="left")
    tokenizer.pad_token = tokenizer.unk_token  # TRL finds ends by the pad id, which must not be EOS
    ids = [
        tokenizer.apply_chat_template(prompt["messages"], add_generation_prompt=True, return_dict=False)
        for prompt in _prompts()
    ]
    rows = [{"input_ids": prompt} for prompt in ids for _ in range(SAMPLES)]

    def classifier() -> Any:
        model = AutoModelForSequenceClassification.from_pretrained(options.base, num_labels=1, dtype=dtype)
        model.config.pad_token_id = tokenizer.pad_token_id
        return model

    class Timer(TrainerCallback):
        times: list[float] = []  # noqa: RUF012 (one timer in one process)

        def on_train_begin(self, *_args: Any, **_kwargs: Any) -> None:
            self.times.append(time.time())

        def on_step_end(self, *_args: Any, **_kwargs: Any) -> None:
            self.times.append(time.time())

    tokens: list[int] = []
    truncate = ppo_trainer.truncate_response

    def counted(stop_token_id: int, pad_token_id: int, responses: torch.Tensor) -> torch.Tensor:
        cut = truncate(stop_token_id, pad_token_id, responses)
        tokens.append(int((cut != pad_token_id).sum()))
        return cut

    ppo_trainer.truncate_response = counted
    with tempfile.TemporaryDirectory() as folder:
        settings = PPOConfig(
            output_dir=folder,
            per_device_train_batch_size=MICRO_BATCH,
            gradient_accumulation_steps=PROMPTS * SAMPLES // MICRO_BATCH,
            local_rollout_forward_batch_size=PROMPTS * SAMPLES,
            total_episodes=(options.updates + 1) * PROMPTS * SAMPLES,
            num_mini_batches=2,
            num_ppo_epochs=1,
            response_length=COMPLETION_TOKENS,
            temperature=1.0,
            stop_token="eos",  # noqa: S106 (a token of text)
            learning_rate=LEARNING_RATE,
            num_sample_generations=0,
            gradient_checkpointing=False,
            bf16=False,  # no autocast: the weights are of the dtype themselves
            use_cpu=options.device == "cpu",
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        )
        trainer = PPOTrainer(
            args=settings,
            processing_class=tokenizer,
            model=AutoModelForCausalLM.from_pretrained(options.base, dtype=dtype),
            ref_model=None,
            reward_model=classifier(),
            value_model=classifier(),
            train_dataset=Dataset.from_list(rows),
            callbacks=[Timer()],
            peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
        )
        trainer.train()
    seconds = [after - before for before, after in zip(Timer.times, Timer.times[1:], strict=False)]
    return _result(options.device, seconds[-options.updates :], tokens[-options.updates :])


if __name__ == "__main__":
    main()
