"""Reward training against TRL's RewardTrainer: rankings a second, peak memory, held-out accuracy.

    make bench-reward            (python -m bench.reward --help lists what can be changed)

Rankings of K = 4 over prompts of 64 to 256 tokens (`reward_rankings.py`). TRL gets them as its users must give them:
each ranking as its six pairs. Both sides train the default base in bf16 arithmetic, LoRA against LoRA and full weights
against full weights, score at the last token of the last layer with a fresh head, AdamW with the same learning rate,
one epoch, 4 rankings a step. Each run is a process of its own, the sides in turn. Times are of training alone, without
loading, tokenising and evaluation. One more run adds our default for few rankings, the probe, which has no peer; then
a profile of each of our modes says where the time goes.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from bench.reward_rankings import make_rankings

PEER = "1.16."
TRL_PAIRS_PER_FORWARD = 8  # 16 sequences
LEARNING_RATE = {"lora": 2e-4, "full": 2e-5}
PROFILED_RANKINGS = 8  # a profile of a whole run would fill the memory with its events
MAX_PROMPT, MAX_COMPLETION = 288, 96  # tokens; nothing is cut


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.reward", description="Reward training against TRL.")
    parser.add_argument("--base", type=Path, default=Path("var/bench/base"), help="a model folder; made if missing")
    parser.add_argument("--modes", default="lora,full")
    parser.add_argument("--pairs", type=int, default=3, help="pairs of runs for each mode")
    parser.add_argument("--rankings", type=int, default=48, help="to train on")
    parser.add_argument("--rankings-per-step", type=int, default=4)
    parser.add_argument("--held-out", type=int, default=64, help="rankings to measure accuracy on")
    parser.add_argument("--side", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    parser.add_argument("--shares", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--mode", choices=("lora", "full", "probe"), help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(run_ours(options) if options.side == "ours" else run_theirs(options)))
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    """Runs both sides in turn and prints the table; each of the last lines is of the mode where we do worse."""
    if not options.base.exists():
        from launch.base_model import prepare_base_model

        options.base.parent.mkdir(parents=True, exist_ok=True)
        prepare_base_model(options.base)
    from trainer.rlhf.flops import matmul_peak

    peak = matmul_peak() / 1e9
    print(f"matmul peak (bf16): {peak:.0f} GFLOP/s", flush=True)
    verdicts: dict[str, dict[str, dict[str, float]]] = {}
    for mode in options.modes.split(","):
        runs: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
        for number in range(options.pairs):
            for side in ("ours", "theirs") if number % 2 == 0 else ("theirs", "ours"):
                runs[side].append(_child(options, side, mode, seed=number + 1))
                print(f"{mode:5} {side:6} {number + 1}: {_line(runs[side][-1], peak)}", flush=True)
        medians = {side: _medians(results) for side, results in runs.items()}
        for side, result in medians.items():
            print(f"{mode:5} {side:6} median: {_line(result, peak)}")
        verdicts[mode] = medians
    print(f"probe ours   1: {_line(_child(options, 'ours', 'probe', seed=1), peak)}")
    for mode in [*verdicts, "probe"]:
        print(f"{mode:5} ours: {_child(options, 'ours', mode, seed=1, shares=True)['shares']}", flush=True)
    for mode, sides in verdicts.items():
        print(f"accuracy ({mode}): {sides['ours']['accuracy']:.3f} {sides['theirs']['accuracy']:.3f}")
    print(f"ratio: {min(_ratio(sides, 'rankings_per_second') for sides in verdicts.values()):.2f}")
    print(f"memory-ratio: {max(_ratio(sides, 'peak_gb') for sides in verdicts.values()):.2f}")
    worst = min(verdicts.values(), key=lambda sides: sides["ours"]["accuracy"] - sides["theirs"]["accuracy"])
    print(f"accuracy: {worst['ours']['accuracy']:.3f} {worst['theirs']['accuracy']:.3f}")


def _ratio(sides: dict[str, dict[str, float]], name: str) -> float:
    return sides["ours"][name] / sides["theirs"][name]


def _child(options: argparse.Namespace, side: str, mode: str, *, seed: int, shares: bool = False) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.reward", "--side", side, "--mode", mode, "--seed", str(seed)]
    rankings = PROFILED_RANKINGS if shares else options.rankings
    command += ["--base", str(options.base), "--rankings", str(rankings), "--held-out", str(options.held_out)]
    command += ["--rankings-per-step", str(options.rankings_per_step)]
    command += ["--shares"] if shares else []
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[-1])


def _medians(results: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(result[name] for result in results) for name in results[0]}


def _line(result: dict[str, float], peak: float) -> str:
    return (
        f"{result['rankings_per_second']:.3f} rankings/s, {result['tokens_per_second']:.0f} tokens/s, "
        f"{result['gflops']:.0f} GFLOP/s ({result['gflops'] / peak:.0%} of the peak), "
        f"memory {result['peak_gb']:.2f} GB, accuracy {result['accuracy']:.3f}"
    )


def _result(options: argparse.Namespace, seconds: float, tokens: int, accuracy: float, flop: float) -> dict[str, float]:
    """`tokens` are those that were computed; the peak is the process's own, taken before evaluation."""
    return {
        "rankings_per_second": options.rankings / seconds,
        "tokens_per_second": tokens / seconds,
        "gflops": flop * tokens / seconds / 1e9,
        "accuracy": accuracy,
    }


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _data(options: argparse.Namespace) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    train = make_rankings(options.rankings, options.seed)
    return train, make_rankings(options.held_out, options.seed, first=1_000_000)


def _flop_per_token(mode: str, parameters: int) -> float:
    """Products of the weights: 2 forward, 2 for the inputs' gradients, 2 for the weights' own (which LoRA spares)."""
    return {"probe": 2.0, "lora": 4.0, "full": 6.0}[mode] * parameters


def run_ours(options: argparse.Namespace) -> dict[str, Any]:
    """One training by this project; with `--shares` only where its time goes, by kinds of operators."""
    import torch

    from bench.processor import shares_by_kind
    from trainer.rlhf.config import LoraConfig, RewardConfig, RunConfig
    from trainer.rlhf.data import Completion, Ranking
    from trainer.rlhf.folder import MetricsLog, StopSignal
    from trainer.rlhf.journal import Journal
    from trainer.rlhf.pairs import folds_of, pairs_of
    from trainer.rlhf.policy import load_policy
    from trainer.rlhf.probe import choose, fit_blend, pair_accuracy
    from trainer.rlhf.processes import ALONE
    from trainer.rlhf.reward_features import group_of, search_keys
    from trainer.rlhf.reward_head import Reading, RewardHead
    from trainer.rlhf.reward_model import RewardModel
    from trainer.rlhf.reward_tuning import Lesson, make_trainee, tune
    from trainer.rlhf.trunk import depth, pooled_features

    def of(record: dict[str, Any]) -> Ranking:
        completions = tuple(Completion(**completion) for completion in record["completions"])
        return Ranking(record["id"], record["id"], record["prompt"], completions, tuple(record["ranks"]))

    config = RunConfig(str(options.base), max_prompt_tokens=MAX_PROMPT, max_completion_tokens=MAX_COMPLETION)
    policy = load_policy(options.base, dtype="bfloat16")
    train, held_out = ([of(record) for record in part] for part in _data(options))
    groups, tests = ([group_of(ranking, policy, config) for ranking in part] for part in (train, held_out))
    layers, size = depth(policy.model), policy.model.config.hidden_size
    pairs = pairs_of(train)

    def fit_probes() -> RewardHead:
        features = pooled_features(
            policy.model,
            groups,
            readings=search_keys(RewardConfig(), layers),
            pad_id=policy.pad_id,
            max_tokens=4096,
        )
        weights = fit_blend(features, choose(features, pairs, folds_of(pairs, folds=5, seed=1)).blend, pairs)
        readings = tuple(Reading(*reading) for reading in weights)
        return RewardHead(readings, torch.stack([weights[reading] for reading in readings]).float())

    def tune_trunk() -> RewardHead:
        torch.manual_seed(options.seed)
        start = RewardHead((Reading("last", layers),), torch.randn(1, size) / math.sqrt(size + 1))
        lora = LoraConfig() if options.mode == "lora" else None
        trainee = make_trainee(policy, start, lora, torch.ones(1, size), seed=options.seed)
        settings = RewardConfig(learning_rate=LEARNING_RATE[options.mode], rankings_per_step=options.rankings_per_step)
        journal = Journal(MetricsLog(Path("unused"), "reward"), StopSignal(), is_writing=False)
        lesson = Lesson(train, groups, pairs)
        return tune(trainee, lesson, settings, seed=options.seed, state=None, journal=journal, processes=ALONE)

    learn = fit_probes if options.mode == "probe" else tune_trunk
    if options.shares:
        return {"shares": shares_by_kind(learn)}
    started = time.monotonic()
    head = learn()
    seconds, peak = time.monotonic() - started, _peak_gb()
    model = RewardModel(options.mode, policy, policy, head, None, {})
    accuracy = pair_accuracy(model.score_groups(tests), pairs_of(held_out))
    tokens = sum(group.tokens for group in groups)
    flop = _flop_per_token(options.mode, policy.model.num_parameters())
    return _result(options, seconds, tokens, accuracy, flop) | {"peak_gb": peak}


def run_theirs(options: argparse.Namespace) -> dict[str, float]:
    """One training by TRL."""
    train, held_out = _data(options)
    rates = {"learning_rate": LEARNING_RATE[options.mode], "max_length": MAX_PROMPT + MAX_COMPLETION}
    steps = {"pairs_per_step": options.rankings_per_step * 6, "pairs_per_forward": TRL_PAIRS_PER_FORWARD}
    theirs = train_theirs(
        options.base, all_pairs(train), is_lora=options.mode == "lora", seed=options.seed, **rates, **steps
    )
    right, total = right_of(theirs, held_out)
    flop = _flop_per_token(options.mode, theirs.parameters)
    return _result(options, theirs.seconds, theirs.tokens, right / total, flop) | {"peak_gb": theirs.peak_gb}


class Theirs(NamedTuple):
    """What TRL trained, and what it took."""

    model: Any
    tokenizer: Any
    parameters: int
    tokens: int
    seconds: float
    peak_gb: float


def train_theirs(
    base: Path,
    pairs: list[dict[str, Any]],
    *,
    is_lora: bool,
    learning_rate: float,
    pairs_per_step: int,
    pairs_per_forward: int,
    max_length: int,
    seed: int,
) -> Theirs:
    """One epoch of TRL's RewardTrainer: full weights in fp32 under bf16 autocast (its default), LoRA on a bf16 base."""
    import datasets
    import torch
    import trl
    from peft import LoraConfig
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    if not trl.__version__.startswith(PEER):
        raise SystemExit(f"the peer is trl {PEER}x, not {trl.__version__}: make .venv anew")
    datasets.disable_progress_bars()
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=1, dtype=torch.bfloat16 if is_lora else torch.float32
    )
    parameters = model.num_parameters()
    with tempfile.TemporaryDirectory() as folder:
        settings = trl.RewardConfig(
            output_dir=folder,
            per_device_train_batch_size=pairs_per_forward,
            gradient_accumulation_steps=pairs_per_step // pairs_per_forward,
            gradient_checkpointing=False,  # faster for TRL where memory allows, as here
            learning_rate=learning_rate,
            num_train_epochs=1,
            max_length=max_length,
            bf16=not is_lora,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            seed=seed,
        )
        lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="SEQ_CLS") if is_lora else None
        trainer = trl.RewardTrainer(
            model=model,
            args=settings,
            train_dataset=datasets.Dataset.from_list(pairs),
            processing_class=tokenizer,
            peft_config=lora,
        )
        started = time.monotonic()
        trainer.train()
        seconds, peak = time.monotonic() - started, _peak_gb()
    tokens = sum(len(ids) for field in ("chosen_ids", "rejected_ids") for ids in trainer.train_dataset[field])
    return Theirs(trainer.model, tokenizer, parameters, tokens, seconds, peak)


def right_of(theirs: Theirs, rankings: list[dict[str, Any]]) -> tuple[int, int]:
    """Pairs of differently ranked completions in the right order, and all of them."""
    right = total = 0
    for ranking in rankings:
        scores, ranks = _their_scores(theirs.model, theirs.tokenizer, ranking), ranking["ranks"]
        wins = [(a, b) for a in range(len(ranks)) for b in range(len(ranks)) if ranks[a] < ranks[b]]
        right += sum(scores[a] > scores[b] for a, b in wins)
        total += len(wins)
    return right, total


def _turn(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def all_pairs(rankings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rankings as the pairs that TRL's users must make of them."""
    return [
        {"prompt": ranking["prompt"], "chosen": _turn(better["text"]), "rejected": _turn(worse["text"])}
        for ranking in rankings
        for better, high in zip(ranking["completions"], ranking["ranks"], strict=True)
        for worse, low in zip(ranking["completions"], ranking["ranks"], strict=True)
        if high < low
    ]


def _their_scores(model: Any, tokenizer: Any, ranking: dict[str, Any]) -> list[float]:
    import torch

    texts = [
        tokenizer.apply_chat_template(ranking["prompt"] + _turn(completion["text"]), tokenize=False)
        for completion in ranking["completions"]
    ]
    scores = []
    model.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for text in texts:  # one by one: TRL finds the last token by its pad id, which here is EOS
            ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")
            scores.append(float(model(**ids).logits[0, 0]))
    return scores


if __name__ == "__main__":
    main()
