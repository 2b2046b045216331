"""A reward model of your own rankings: held-out accuracy of this project's trainer and of TRL's, on the same folds.

    python -m bench.own_rankings rankings.jsonl [--folds 5] [--peer-folds 1]

`rankings.jsonl` is as in docs/run-folder.md; prompts are dealt to folds, and no prompt is on both sides. Ours is the
`reward` stage with its defaults, which chooses by cross-validation inside the training folds. TRL's RewardTrainer
gets the same training rankings as pairs, LoRA or full weights, one epoch; that is slow on a processor: `--peer-folds`.
Accuracy is of pairs with different ranks. A fold's interval is a bootstrap over prompts; those of the last lines are
Wilson's, as if pairs were independent. Where TRL was not trained on all folds, ours is repeated on those it was.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.default_base import add_base_options, prepare_base
from bench.reward_peer import Training, train_theirs
from trainer.rlhf.intervals import wilson

PEER_RATES = {"lora": 2e-4, "full": 1e-5}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.own_rankings", description="Accuracy on your rankings.")
    parser.add_argument("rankings", type=Path)
    add_base_options(parser)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--run-folds", type=int, help="on how many of the folds ours is trained; default: all")
    parser.add_argument("--peer-folds", type=int, default=0, help="on how many of the folds TRL is trained too")
    parser.add_argument("--peer-mode", choices=("lora", "full"), default="lora")
    parser.add_argument("--max-prompt", type=int, default=384, help="tokens")
    parser.add_argument("--max-completion", type=int, default=256, help="tokens")
    parser.add_argument("--recipe", type=json.loads, default={}, help="JSON over the reward stage's configuration")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    prepare_base(options)
    rankings = [json.loads(line) for line in options.rankings.read_text(encoding="utf-8").splitlines()]
    keys = sorted({key_of(ranking) for ranking in rankings})
    random.Random(options.seed).shuffle(keys)
    print(f"{len(rankings)} rankings of {len(keys)} prompts, {options.folds} folds")
    ours, theirs = [], []
    for fold in range(options.run_folds or options.folds):
        held_out = set(keys[fold :: options.folds])
        parts = [ranking | {"split": "held_out" if key_of(ranking) in held_out else "train"} for ranking in rankings]
        ours.append(run_ours(options, parts, fold))
        if fold < options.peer_folds:
            theirs.append(run_theirs(options, parts, fold))
    both = ours[: len(theirs)] if len(theirs) < len(ours) else []
    for name, results in (("ours", ours), ("ours, on their folds", both), ("theirs", theirs)):
        if results:
            right, pairs = (sum(column) for column in zip(*results, strict=True))
            low, high = wilson(right / pairs, pairs)
            print(f"{name}: {right / pairs:.3f} [{low:.3f}, {high:.3f}] of {pairs:.0f} pairs in {len(results)} folds")


def key_of(ranking: dict[str, Any]) -> str:
    return ranking.get("prompt_id") or json.dumps(ranking["prompt"])


def run_ours(options: argparse.Namespace, rankings: list[dict[str, Any]], fold: int) -> tuple[float, int]:
    """The `reward` stage in a run folder; (pairs right, pairs)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = "".join(json.dumps(ranking) + "\n" for ranking in rankings)
        (folder / "rankings.jsonl").write_text(lines, encoding="utf-8")
        limits = {"max_prompt_tokens": options.max_prompt, "max_completion_tokens": options.max_completion}
        config = {"base_model": str(options.base.resolve()), "dtype": options.dtype, "seed": options.seed}
        config |= {"reward": options.recipe, **limits}
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        started = time.monotonic()
        subprocess.run([sys.executable, "-m", "trainer.rlhf", "reward", name], check=True)
        seconds = time.monotonic() - started
        report = json.loads((folder / "reward" / "report.json").read_text(encoding="utf-8"))
    found, rival, chosen = report["accuracy"], report["length_baseline"], report["chosen"]
    print(
        f"fold {fold + 1} ours   {found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}] of {found['pairs']}, "
        f"length alone {rival['value']:.3f}, {chosen['pooling']} at layer {chosen['layer']}, {seconds:.0f} s",
        flush=True,
    )
    return found["value"] * found["pairs"], found["pairs"]


def run_theirs(options: argparse.Namespace, rankings: list[dict[str, Any]], fold: int) -> tuple[float, int]:
    """One epoch of TRL's RewardTrainer; (pairs right, pairs)."""
    training = Training(
        base=str(options.base),
        dtype=options.dtype,
        is_lora=options.peer_mode == "lora",
        learning_rate=PEER_RATES[options.peer_mode],
        pairs_per_step=16,
        pairs_per_forward=8,
        max_length=options.max_prompt + options.max_completion,
        seed=options.seed,
    )
    parts = {part: [ranking for ranking in rankings if ranking["split"] == part] for part in ("train", "held_out")}
    theirs = train_theirs(training, parts["train"], parts["held_out"])
    right, pairs = int(theirs["right"]), int(theirs["pairs"])
    print(f"fold {fold + 1} theirs {right / pairs:.3f} of {pairs} pairs, {theirs['seconds']:.0f} s", flush=True)
    return right, pairs


if __name__ == "__main__":
    main()
