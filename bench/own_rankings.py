"""A reward model of your own rankings: held-out accuracy of this project's trainer and of TRL's, on the same folds.

    python -m bench.own_rankings rankings.jsonl [--folds 5] [--only-folds 1,2] [--peer-folds 1]

`rankings.jsonl` is as in docs/run-folder.md; prompts are dealt to folds, and no prompt is on both sides, whatever its
ids. Ours is the `reward` stage with its defaults, which chooses by cross-validation inside the training folds. TRL's
RewardTrainer gets the same training rankings as pairs, LoRA or full weights, one epoch; that is slow on a processor:
`--peer-folds`. A long comparison can be done in parts (`--only-folds`): a fold is the same, seeds too, whichever others
are trained. Completions that are too long are cut by ours; TRL drops a pair that has one, and the fold's line says how
many; “length alone” counts them whole.
Accuracy is of pairs with different ranks and texts, equal scores counting half, ours in the stage's dtype and TRL's in
fp32. A fold's interval is the report's, over prompts; those of the last lines are as if pairs were independent.
Where TRL was not trained on all folds, ours is repeated on those it was.
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
from bench.peer import REWARD_PEER
from bench.reward_peer import Training, train_theirs
from trainer.rlhf.config import RewardConfig, parse
from trainer.rlhf.data import DataError, numbered_lines, parse_ranking
from trainer.rlhf.intervals import wilson
from trainer.rlhf.pairs import has_preference
from trainer.rlhf.ranking_file import RankingFile
from trainer.rlhf.same_prompts import firsts_of

PEER_RATES = {"lora": 2e-4, "full": 1e-5}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.own_rankings", description="Accuracy on your rankings.")
    parser.add_argument("rankings", type=Path, help="rankings.jsonl, as docs/run-folder.md has it")
    add_base_options(parser)
    parser.add_argument("--folds", type=int, default=5, help="that prompts are dealt to; default: 5")
    parser.add_argument("--only-folds", type=numbers, help="the folds to train on, as 3,4; default: all")
    parser.add_argument("--peer-folds", type=numbers, default=[], help="those of them that TRL is trained on too")
    parser.add_argument("--peer-mode", choices=("lora", "full"), default="lora")
    parser.add_argument("--max-prompt", type=int, default=384, help="tokens")
    parser.add_argument("--max-completion", type=int, default=256, help="tokens")
    parser.add_argument("--recipe", type=recipe, default={}, help="JSON over the reward stage's configuration")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    folds = chosen_folds(options.folds, options.only_folds, options.peer_folds)
    rankings = checked_rankings(options.rankings)
    dealt = deal(rankings, options.folds, options.seed)
    refuse_folds_without_a_pair(rankings, dealt, folds)
    prepare_base(options)
    if options.peer_folds:
        REWARD_PEER.python()  # a missing package is found before hours of training
    print(f"{len(rankings)} rankings of {len(set(prompts_of(rankings)))} prompts, {options.folds} folds")
    ours, theirs = {}, {}
    for fold in folds:
        parts = [
            {**closed(ranking), "split": "held_out" if its_fold == fold else "train"}
            for ranking, its_fold in zip(rankings, dealt, strict=True)
        ]
        ours[fold] = run_ours(options, parts, fold)
        if fold in options.peer_folds:
            theirs[fold] = run_theirs(options, parts, fold)
    both = [ours[fold] for fold in theirs] if len(theirs) < len(ours) else []
    for name, results in (("ours", ours.values()), ("ours, on their folds", both), ("theirs", theirs.values())):
        if results:
            right, pairs = (sum(column) for column in zip(*results, strict=True))
            low, high = wilson(right / pairs, pairs)
            print(f"{name}: {right / pairs:.3f} [{low:.3f}, {high:.3f}] of {pairs:.0f} pairs in {len(results)} folds")


def numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def chosen_folds(folds: int, only: list[int] | None, peers: list[int]) -> list[int]:
    """The folds to train on, counted from 1; raises `SystemExit` for one that is not there."""
    chosen = sorted(set(range(1, folds + 1) if only is None else only))
    if not set(chosen) <= set(range(1, folds + 1)):
        raise SystemExit(f"--only-folds: folds are numbered from 1 to {folds}")
    if not set(peers) <= set(chosen):
        raise SystemExit("--peer-folds must be among the folds that ours is trained on")
    return chosen


def recipe(text: str) -> dict[str, Any]:
    """Settings of the reward stage from JSON; argparse says what is wrong with them."""
    try:
        settings = json.loads(text)
        parse(RewardConfig, settings, "reward")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return settings


def checked_rankings(path: Path) -> list[dict[str, Any]]:
    """The file's lines; raises `SystemExit` with what the reward stage would say of one that is no ranking."""
    try:
        RankingFile(path)
        return [record for _, record, _ in numbered_lines(path)]
    except DataError as error:
        raise SystemExit(str(error)) from error
    except OSError as error:
        raise SystemExit(f"{error.filename}: {error.strerror}") from error


def deal(rankings: list[dict[str, Any]], folds: int, seed: int) -> list[int]:
    """The fold of each ranking, from 1 on: that of its prompt. Raises `SystemExit` for fewer prompts than folds."""
    prompts = prompts_of(rankings)
    keys = sorted(set(prompts))
    if not 2 <= folds <= len(keys):
        raise SystemExit(f"--folds: {len(keys)} prompts cannot be dealt to {folds} folds; at least two are needed")
    random.Random(seed).shuffle(keys)
    fold_of = {key: place % folds + 1 for place, key in enumerate(keys)}
    return [fold_of[key] for key in prompts]


def refuse_folds_without_a_pair(rankings: list[dict[str, Any]], dealt: list[int], folds: list[int]) -> None:
    """Raises `SystemExit` for a fold on which nothing could be measured, or beside which nothing could be learned.

    That takes a preference, on one prompt in the fold and on two outside it.
    """
    said = zip(prompts_of(rankings), rankings, dealt, strict=True)
    decided = {key: fold for key, ranking, fold in said if has_preference(parse_ranking(ranking, "a ranking"))}
    for fold in folds:
        inside = sum(its_fold == fold for its_fold in decided.values())
        if not inside:
            raise SystemExit(f"fold {fold} has no ranking with a preference to measure on: take fewer --folds")
        if len(decided) - inside < 2:
            raise SystemExit(f"beside fold {fold} fewer than two prompts have a preference to learn from: rank more")


def closed(ranking: dict[str, Any]) -> dict[str, Any]:
    """The ranking with texts alone, as TRL takes it: ours must not see by token ids which of them a limit cut."""
    texts = [
        {name: value for name, value in completion.items() if name != "token_ids"}
        for completion in ranking["completions"]
    ]
    return ranking | {"completions": texts}


def prompts_of(rankings: list[dict[str, Any]]) -> list[str]:
    """The prompt of each ranking, by the id of the first that has it, else by its words."""
    firsts = firsts_of(parse_ranking(ranking, "a ranking") for ranking in rankings)
    return [str(rankings[first].get("prompt_id") or json.dumps(rankings[first]["prompt"])) for first in firsts]


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
        command = [sys.executable, "-m", "bench.stage", options.device, str(folder / "peak"), "reward", name]
        if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:  # it names a folder that goes with this block
            raise SystemExit(f"fold {fold}: the reward stage ended without a reward model")
        seconds = time.monotonic() - started
        report = json.loads((folder / "reward" / "report.json").read_text(encoding="utf-8"))
    found, rival, chosen = report["accuracy"], report["length_baseline"], report["chosen"]
    print(
        f"fold {fold} ours   {found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}] of {found['pairs']}, "
        f"length alone {rival['value']:.3f}, {chosen['pooling']} at layer {chosen['layer']}, {seconds:.0f} s",
        flush=True,
    )
    return found["value"] * found["pairs"], found["pairs"]


def run_theirs(options: argparse.Namespace, rankings: list[dict[str, Any]], fold: int) -> tuple[float, int]:
    """One epoch of TRL's RewardTrainer; (pairs right, pairs)."""
    training = Training(
        base=str(options.base),
        device=options.device,
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
    right, pairs = theirs["right"], theirs["pairs"]
    dropped = f"{theirs['dropped']} training pairs too long and dropped"
    print(f"fold {fold} theirs {right / pairs:.3f} of {pairs}, {dropped}, {theirs['seconds']:.0f} s", flush=True)
    return right, pairs


if __name__ == "__main__":
    main()
