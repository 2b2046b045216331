"""Reward training against TRL's RewardTrainer: rankings a second, peak memory, held-out accuracy.

    make bench-reward            (python -m bench.reward --help lists what can be changed)

It takes hours where the processor has no bf16 of its own: there each of TRL's six runs takes a core half an hour.
`--modes lora --pairs 1 --rankings 8` is one run of each side and twelve times shorter.

Rankings of K = 4 over prompts of 64 to 256 tokens (`reward_rankings.py`). TRL, in an environment of its own, gets them
as its users must give them: each ranking as its six pairs, as many a step as our rankings have. Both sides train the
default base on one device (`--device`, the processor) in the dtype that it does well (`--dtype`), LoRA against LoRA and
full weights against full weights, score at the last token of the last layer with a fresh head drawn from the same
distribution, AdamW with the same highest learning rate, one epoch, 4 rankings a step. Schedules are each side's own:
our rate rises over 5 % of the steps and falls to a tenth, TRL's falls to 0 from the start. Accuracy is counted in fp32.

Each run is a process of its own, the sides in turn. Times are of training alone, without loading, tokenising and
evaluation. One more run adds our default for few rankings, the probe, which has no peer; then a profile of each of our
modes says where the time goes. Shares of the peak are of FLOPs counted from shapes (`trainer/rlhf/flops.py`).
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.default_base import add_base_options, prepare_base, use_device
from bench.peak import peak_gb
from bench.peer import REWARD_PEER
from bench.reward_peer import Training, train_theirs
from bench.reward_rankings import make_rankings
from bench.right_pairs import right_pairs

if TYPE_CHECKING:
    from trainer.rlhf.flops import Work

TRL_PAIRS_PER_FORWARD = 8  # at most: 16 sequences
LEARNING_RATE = {"lora": 2e-4, "full": 2e-5}
PROFILED_RANKINGS = 8  # a profile of a whole run would fill the memory with its events
MAX_PROMPT, MAX_COMPLETION = 288, 96  # tokens; nothing is cut


DURATION = (
    "Takes hours where the processor has no bf16 of its own: each of TRL's six runs is then half an hour of a core. "
    "Short: --modes lora --pairs 1 --rankings 8."
)


def main() -> None:
    summary = f"Reward training against TRL. {DURATION}"
    parser = argparse.ArgumentParser(prog="python -m bench.reward", description=summary)
    add_base_options(parser)
    parser.add_argument("--modes", default="lora,full")
    parser.add_argument("--pairs", type=int, default=3, help="pairs of runs for each mode")
    parser.add_argument("--rankings", type=int, default=48, help="to train on")
    parser.add_argument("--rankings-per-step", type=int, default=4)
    parser.add_argument("--held-out", type=int, default=64, help="rankings to measure accuracy on")
    parser.add_argument("--mode", choices=("lora", "full", "probe"), help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--shares", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.mode:
        use_device(options.device)
        print(json.dumps(run_ours(options)))
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    """Runs both sides in turn and prints the table; each of the last lines is of the mode where we do worse."""
    prepare_base(options)
    REWARD_PEER.python()  # its environment is made before anything is measured
    import torch

    from trainer.rlhf.flops import matmul_peak

    peak = matmul_peak(getattr(torch, options.dtype), torch.device(options.device)) / 1e9
    print(f"matmul peak ({options.dtype}): {peak:.0f} GFLOP/s", flush=True)
    sides = {"ours": our_child, "theirs": run_theirs}
    verdicts: dict[str, dict[str, dict[str, float]]] = {}
    for mode in options.modes.split(","):
        runs: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
        for number in range(options.pairs):
            for side in ("ours", "theirs") if number % 2 == 0 else ("theirs", "ours"):
                runs[side].append(sides[side](options, mode, seed=number + 1))
                print(f"{mode:5} {side:6} {number + 1}: {_line(runs[side][-1], peak)}", flush=True)
        medians = {side: _medians(results) for side, results in runs.items()}
        for side, result in medians.items():
            print(f"{mode:5} {side:6} median: {_line(result, peak)}")
        verdicts[mode] = medians
    print(f"probe ours   1: {_line(our_child(options, 'probe', seed=1), peak)}")
    for mode in [*verdicts, "probe"]:
        print(f"{mode:5} ours: {our_child(options, mode, seed=1, shares=True)['shares']}", flush=True)
    for mode, both in verdicts.items():
        print(f"accuracy ({mode}): {both['ours']['accuracy']:.3f} {both['theirs']['accuracy']:.3f}")
    print(f"ratio: {min(_ratio(both, 'rankings_per_second') for both in verdicts.values()):.2f}")
    print(f"memory-ratio: {max(_ratio(both, 'peak_gb') for both in verdicts.values()):.2f}")
    worst = min(verdicts.values(), key=lambda both: both["ours"]["accuracy"] - both["theirs"]["accuracy"])
    print(f"accuracy: {worst['ours']['accuracy']:.3f} {worst['theirs']['accuracy']:.3f}")


def _ratio(both: dict[str, dict[str, float]], name: str) -> float:
    return both["ours"][name] / both["theirs"][name]


def our_child(options: argparse.Namespace, mode: str, *, seed: int, shares: bool = False) -> dict[str, Any]:
    """`run_ours` in a process of its own: its peak is then of this run alone."""
    settings = {
        "mode": mode,
        "seed": seed,
        "base": options.base,
        "device": options.device,
        "dtype": options.dtype,
        "rankings": PROFILED_RANKINGS if shares else options.rankings,
        "held-out": options.held_out,
        "rankings-per-step": options.rankings_per_step,
    }
    command = [sys.executable, "-m", "bench.reward", *(f"--{name}={value}" for name, value in settings.items())]
    command += ["--shares"] if shares else []
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def _medians(results: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(result[name] for result in results) for name in results[0]}


def _line(result: dict[str, float], peak: float) -> str:
    return (
        f"{result['rankings_per_second']:.3f} rankings/s, {result['tokens_per_second']:.0f} tokens/s, "
        f"{result['gflops']:.0f} GFLOP/s ({result['gflops'] / peak:.0%} of the peak), "
        f"{result['steps']:.0f} steps, memory {result['peak_gb']:.2f} GB, accuracy {result['accuracy']:.3f}"
    )


def _result(rankings: int, seconds: float, work: Work, flops: float, accuracy: float) -> dict[str, float]:
    return {
        "rankings_per_second": rankings / seconds,
        "tokens_per_second": work.tokens / seconds,
        "gflops": flops / seconds / 1e9,
        "accuracy": accuracy,
    }


def _data(options: argparse.Namespace, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    train = make_rankings(options.rankings, seed)
    return train, make_rankings(options.held_out, seed, first=1_000_000)


def flops_of(base: Path, mode: str, work: Work) -> float:
    """What training on `work` asks for, counted as `trainer.rlhf.flops` counts: embeddings multiply nothing."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from trainer.rlhf.config import LoraConfig
    from trainer.rlhf.experience import Actor
    from trainer.rlhf.flops import size_of
    from trainer.rlhf.policy import Policy

    with torch.device("meta"):  # shapes alone
        policy = Policy(AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base)), None, frozenset())
        if mode == "lora":
            policy.new_adapter("lora", LoraConfig(), seed=1)
    size = size_of(Actor(policy, "lora" if mode == "lora" else None))
    return size.forward(work) if mode == "probe" else size.training(work, is_full=mode == "full")


def run_ours(options: argparse.Namespace) -> dict[str, Any]:
    """One training by this project; with `--shares` only where its time goes, by kinds of operators."""
    import torch

    from bench.processor import shares_by_kind
    from trainer.rlhf.config import LoraConfig, RewardConfig, RunConfig
    from trainer.rlhf.data import Completion, Ranking
    from trainer.rlhf.flops import packed_work
    from trainer.rlhf.folder import MetricsLog, StopSignal
    from trainer.rlhf.journal import Journal
    from trainer.rlhf.pairs import folds_of, pairs_of
    from trainer.rlhf.policy import load_policy
    from trainer.rlhf.probe import choose, fit_blend
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
    policy = load_policy(options.base, dtype=options.dtype, device=options.device)
    train, held_out = ([of(record) for record in part] for part in _data(options, options.seed))
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
        start = RewardHead((Reading("last", layers),), torch.randn(1, size) * policy.model.config.initializer_range)
        lora = LoraConfig() if options.mode == "lora" else None
        trainee = make_trainee(policy, start, lora, torch.ones(1, size), seed=options.seed)
        settings = RewardConfig(learning_rate=LEARNING_RATE[options.mode], rankings_per_step=options.rankings_per_step)
        journal = Journal(MetricsLog(Path("unused"), "reward"), StopSignal(), is_writing=False)
        lesson = Lesson(train, groups, pairs)
        return tune(trainee, lesson, settings, seed=options.seed, state=None, journal=journal, processes=ALONE)

    learn = fit_probes if options.mode == "probe" else tune_trunk
    if options.shares:
        return {"shares": shares_by_kind(learn, options.device)}
    started = time.monotonic()
    head = learn()
    seconds = time.monotonic() - started
    peak = peak_gb(options.device)
    policy.model.float()
    scores = RewardModel(options.mode, policy, policy, head, None, {}).score_groups(tests)
    each = scores.split([len(ranking.ranks) for ranking in held_out])
    counts = [
        right_pairs(own.tolist(), ranking.ranks, [completion.text for completion in ranking.completions])
        for own, ranking in zip(each, held_out, strict=True)
    ]
    right, decided = (sum(column) for column in zip(*counts, strict=True))
    work = packed_work(groups)._replace(predicted=0)
    flops = flops_of(options.base, options.mode, work)
    steps = 0 if options.mode == "probe" else math.ceil(len(train) / options.rankings_per_step)
    result = _result(options.rankings, seconds, work, flops, right / decided)
    return result | {"steps": steps, "peak_gb": peak}


def whole_forward(pairs: int) -> int:
    """The most pairs of one forward of TRL's into which a step divides."""
    return max(size for size in range(1, TRL_PAIRS_PER_FORWARD + 1) if pairs % size == 0)


def run_theirs(options: argparse.Namespace, mode: str, *, seed: int) -> dict[str, float]:
    """One training by TRL."""
    from trainer.rlhf.flops import packed_work
    from trainer.rlhf.packing import Group

    pairs = 6 * options.rankings_per_step
    training = Training(
        base=str(options.base),
        device=options.device,
        dtype=options.dtype,
        is_lora=mode == "lora",
        learning_rate=LEARNING_RATE[mode],
        pairs_per_step=pairs,
        pairs_per_forward=whole_forward(pairs),
        max_length=MAX_PROMPT + MAX_COMPLETION,
        seed=seed,
    )
    theirs = train_theirs(training, *_data(options, seed))
    work = packed_work([Group([0] * length, []) for length in theirs["lengths"]])
    accuracy, flops = theirs["right"] / theirs["pairs"], flops_of(options.base, mode, work)
    result = _result(options.rankings, theirs["seconds"], work, flops, accuracy)
    return result | {"steps": theirs["steps"], "peak_gb": theirs["peak_gb"]}


if __name__ == "__main__":
    main()
