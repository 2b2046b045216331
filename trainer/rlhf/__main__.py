"""The trainer as a program.

    python -m trainer.rlhf {pretrain,sft,reward,ppo,evaluate} RUN_FOLDER
    python -m trainer.rlhf ppo RUN_FOLDER [--reward module:function | --reward-model OTHER_RUN/reward]
    python -m trainer.rlhf evaluate RUN_FOLDER [--checkpoint RUN_FOLDER/sft/policy] [--reward-model OTHER_RUN/reward]
    python -m trainer.rlhf generate RUN_FOLDER --out completions.jsonl [--checkpoint FOLDER] [--split held_out]
    python -m trainer.rlhf generate RUN_FOLDER --out unranked.jsonl --unranked --samples 4 --split train
    python -m trainer.rlhf score RUN_FOLDER --completions completions.jsonl --out scores.jsonl [--reward-model FOLDER]

The stages' exit codes: 0 complete, 75 stopped by SIGTERM or Ctrl-C and ready to go on, 69 not begun since another
process is at work in the run folder, 1 failed (see error.json). A stage whose settings or options changed after it had
begun fails, finished or not, and names them; an unfinished ppo, sft or pretrain also where what it is made of changed,
and reward and evaluate make anew what others made.
Several processes: `accelerate launch --multi_gpu --num_processes N -m trainer.rlhf ppo RUN_FOLDER`; on CPUs too, where
`accelerate` without `--multi_gpu` starts one process whatever N is.
"""

from __future__ import annotations

import argparse
import functools
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from transformers.utils import logging as transformers_logging

from trainer.rlhf.closing import changed_sentence, closing_sentence
from trainer.rlhf.folder import COMPLETE, PRODUCTS, RunFolder, StopSignal, run_stage
from trainer.rlhf.inputs import changed_inputs
from trainer.rlhf.processes import is_first_started


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one subcommand; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command == "generate" and options.samples < 1:
        parser.error("--samples must be 1 or more")
    if options.command == "generate" and options.unranked and options.samples < 2:
        parser.error("--unranked needs at least two --samples of a prompt")
    transformers_logging.disable_progress_bar()
    if not (options.run_folder / "config.json").exists():
        print(f"{options.run_folder} has no config.json: it is no run folder", file=sys.stderr)
        return 1
    given = {name: getattr(options, name, None) for name in ("reward", "reward_model", "checkpoint")}
    given = {name: str(value) for name, value in given.items() if value is not None}
    code = run_stage(options.command, _stage(options), options.run_folder, options=given)
    if code == COMPLETE and is_first_started():
        print(_closing(options))
    return code


def _closing(options: argparse.Namespace) -> str:
    if options.command not in PRODUCTS:
        return f"All lines are in {options.out}."
    folder, stage = RunFolder(options.run_folder), options.command
    said = [closing_sentence(folder, stage)]
    if changed := changed_inputs(folder, stage):
        said.append(changed_sentence(folder, stage, changed))
    return "\n".join(said)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trainer.rlhf", description="Rankings in, a better policy out.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    summaries = {
        "pretrain": "self-supervised training on corpus.jsonl or corpus.txt",
        "sft": "supervised fine-tuning on demonstrations.jsonl",
        "reward": "a reward model and its judge from rankings.jsonl",
        "ppo": "PPO-max against the reward model or a function",
        "evaluate": "the new policy against its parent and the base",
        "generate": "completions of prompts.jsonl from a checkpoint",
        "score": "one score per completion, from the run's reward model",
    }
    found = {name: commands.add_parser(name, help=summary) for name, summary in summaries.items()}
    for command in found.values():
        command.add_argument("run_folder", type=Path, metavar="RUN_FOLDER")
    for name in ("ppo", "evaluate", "score"):
        scorers = found[name].add_mutually_exclusive_group()
        scorers.add_argument(
            "--reward-model", type=_folder, help="a run's reward/, or the model in it; default: its own"
        )
        if name != "score":
            scorers.add_argument("--reward", metavar="MODULE:FUNCTION", help="a function of (prompts, completions)")
    found["evaluate"].add_argument("--checkpoint", type=_folder, help="a policy folder; default: the run's ppo/policy")
    writers = found["generate"].add_mutually_exclusive_group()
    writers.add_argument(
        "--checkpoint",
        type=Path,
        help="a policy folder; default: the run's ppo/policy, or sft/policy, or its parent, or the base",
    )
    writers.add_argument("--base", action="store_true", help="the base model itself")
    found["generate"].add_argument("--split", choices=("train", "held_out"), help="only prompts of this split")
    found["generate"].add_argument("--samples", type=int, default=1, help="completions a prompt (default 1)")
    found["generate"].add_argument("--temperature", type=_temperature, default=1.0, help="default 1")
    found["generate"].add_argument("--top-p", type=_top_p, default=1.0, help="default 1: nothing is cut")
    found["generate"].add_argument("--seed", type=int, default=1, help="of the sampling, not the run's (default 1)")
    found["generate"].add_argument("--unranked", action="store_true", help="a line a prompt, as reward.metarm reads")
    found["generate"].add_argument("--out", type=Path, required=True, help="the file to write")
    found["score"].add_argument("--completions", type=Path, required=True, help="lines {prompt, completions or text}")
    found["score"].add_argument("--out", type=Path, required=True, help="the file to write")
    return parser


def _temperature(text: str) -> float:
    if not 0 <= _number(text) < math.inf:
        raise argparse.ArgumentTypeError(f"must be a finite number from 0 (the likeliest token) up, not {text}")
    return float(text)


def _top_p(text: str) -> float:
    if not 0 < _number(text) <= 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1 (nothing is cut), not {text}")
    return float(text)


def _number(text: str) -> float:
    """Not a number where it is none, which no range holds."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _folder(path: str) -> Path:
    """Absolute, so that it names the same folder wherever the stage is taken up again."""
    return Path(path).resolve()


def _stage(options: argparse.Namespace) -> Callable[[RunFolder, StopSignal], None]:
    """The stage's function; each import brings only what the stage needs."""
    match options.command:
        case "pretrain":
            from trainer.rlhf.pretrain import run_pretrain as stage
        case "sft":
            from trainer.rlhf.sft import run_sft as stage
        case "reward":
            from trainer.rlhf.reward_training import train_reward as stage
        case "ppo":
            from trainer.rlhf.ppo import run_ppo

            stage = functools.partial(run_ppo, reward=options.reward, reward_model=options.reward_model)
        case "evaluate":
            from trainer.rlhf.evaluation import run_evaluate

            scorer = {"reward": options.reward, "reward_model": options.reward_model}
            stage = functools.partial(run_evaluate, checkpoint=options.checkpoint, **scorer)
        case "generate":
            from trainer.rlhf.generate import run_generate

            stage = functools.partial(run_generate, options=options)
        case "score":
            from trainer.rlhf.score import run_score

            files = {"completions": options.completions, "out": options.out}
            stage = functools.partial(run_score, reward_model=options.reward_model, **files)
    return stage


if __name__ == "__main__":
    sys.exit(main())
