"""Rankings dealt by prompt: to learn from, for an independent judge, held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from trainer.rlhf.config import RunConfig
from trainer.rlhf.data import Ranking, numbered_lines, parse_ranking, prompt_key, read_prompts
from trainer.rlhf.folder import RunFolder, StageError
from trainer.rlhf.pairs import has_preference
from trainer.rlhf.ranking_file import deal_prompts, split_by_prompt
from trainer.rlhf.same_prompts import firsts_of


class Split(NamedTuple):
    """Rankings to learn from, to train the judge on (maybe none), held out; no prompt is in two of them."""

    learning: Sequence[Ranking]
    judging: Sequence[Ranking]
    held_out: Sequence[Ranking]


def split_rankings(rankings: Sequence[Ranking], config: RunConfig, splits: Mapping[str, str] | None = None) -> Split:
    """The three parts. With fewer than two prompts for a judge there is none, and all are learned from."""
    if not rankings:
        raise StageError("rankings.jsonl has no ranking: rank some prompts first")
    train, held_out = split_by_prompt(
        rankings, held_out_share=config.reward.held_out_share, seed=config.seed, splits=splits or {}
    )
    if not held_out:
        if config.reward.held_out_share:
            raise StageError("all rankings are of one prompt, and none is left to measure on: rank more prompts")
        raise StageError(
            "no prompt is held out to measure on: set reward.held_out_share above 0, or the split of some to “held_out”"
        )
    learning, judging = deal_prompts(train, share=config.reward.judge_share, seed=config.seed + 1)
    if not (can_teach(learning) and can_teach(judging)):
        learning, judging = train, []
    if not can_teach(learning):
        raise StageError(
            "rankings with a preference, and a weight above 0, are needed for at least two training prompts: "
            "rank more prompts"
        )
    return Split(learning, judging, held_out)


def prompt_splits(folder: RunFolder) -> dict[str, str]:
    """What the run's prompts.jsonl, if it has one, says of its prompts, by their ids and their contents.

    Of a prompt on both sides it says held out: `evaluate` asks it.
    """
    path = folder.path / "prompts.jsonl"
    prompts = [prompt for prompt in read_prompts(path) if prompt.split] if path.exists() else []
    prompts.sort(key=lambda prompt: prompt.split == "held_out")
    return {key: prompt.split for prompt in prompts for key in (prompt.id, prompt_key(prompt.messages))}


def held_out_in_rankings(folder: RunFolder) -> set[str]:
    """Ids and contents (`prompt_key`) of the prompts that the run's rankings.jsonl, if it has one, holds out."""
    path, names = folder.path / "rankings.jsonl", set()
    for _, record, where in numbered_lines(path) if path.exists() else ():
        if record.get("split") == "held_out":
            ranking = parse_ranking(record, where)
            names |= {ranking.prompt_id, prompt_key(ranking.prompt)}
    return names


def named_splits(folder: RunFolder) -> dict[str, str]:
    """What both files say of prompts: of one that either holds out, held out."""
    return prompt_splits(folder) | dict.fromkeys(held_out_in_rankings(folder), "held_out")


def can_teach(rankings: Sequence[Ranking]) -> bool:
    """Whether two prompts have a ranking with a preference."""
    prompts = zip(firsts_of(rankings).tolist(), rankings, strict=True)
    decided = (prompt for prompt, ranking in prompts if has_preference(ranking))
    first = next(decided, None)
    return any(prompt != first for prompt in decided)
