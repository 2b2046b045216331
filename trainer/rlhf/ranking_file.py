"""Rankings that stay on disk: a line is checked once and read again when it is asked for.

A ranking takes 8 bytes of memory, the place of its line; a `Part` of the rankings takes 8 more. Both are sequences of
`Ranking` like any list, so that what reads rankings need not know where they are. The file must not change meanwhile.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from trainer.rlhf.data import Ranking, numbered_lines, parse_ranking, prompt_draw


class RankingFile(Sequence[Ranking]):
    """The rankings of a `rankings.jsonl`; raises `DataError` at the first line that is not one."""

    def __init__(self, path: Path | str):
        self.path, self._starts = Path(path), array("q")
        for start, record, where in numbered_lines(self.path):
            parse_ranking(record, where)
            self._starts.append(start)

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, place: int) -> Ranking: ...
    @overload
    def __getitem__(self, place: slice) -> list[Ranking]: ...
    def __getitem__(self, place):
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        with self.path.open("rb") as file:
            file.seek(self._starts[place])
            return parse_ranking(json.loads(file.readline()), self.path.name)

    def __iter__(self) -> Iterator[Ranking]:
        return (parse_ranking(record, where) for _, record, where in numbered_lines(self.path))


class Chosen(Sequence[Ranking]):
    """Some of the rankings, by their numbers, in that order."""

    def __init__(self, rankings: Sequence[Ranking], numbers: np.ndarray):
        self.rankings, self.numbers = rankings, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, place: int) -> Ranking: ...
    @overload
    def __getitem__(self, place: slice) -> list[Ranking]: ...
    def __getitem__(self, place):
        if isinstance(place, slice):
            return [self.rankings[int(number)] for number in self.numbers[place]]
        return self.rankings[int(self.numbers[place])]


def split_by_prompt(rankings: Sequence[Ranking], *, held_out_share: float, seed: int) -> tuple[Chosen, Chosen]:
    """Training and held-out rankings; a prompt is never on both sides.

    A `split` in the file decides. Prompts without one are dealt by a hash of seed and prompt, so that the same prompt
    falls on the same side in every run of the same seed, however many rankings join. Where that holds nothing out,
    the prompt with the lowest draw is, unless the share is 0.
    """
    draws, splits = np.empty(len(rankings)), np.empty(len(rankings), dtype="U8")
    for number, ranking in enumerate(rankings):
        draws[number], splits[number] = prompt_draw(ranking.prompt_id, seed), ranking.split or ""
    is_held_out = draws < held_out_share
    is_held_out &= ~np.isin(draws, draws[splits == "train"])
    is_held_out |= np.isin(draws, draws[splits == "held_out"])
    if held_out_share > 0 and not is_held_out.any() and len(draws) and draws.min() < draws.max():
        is_held_out = draws == draws.min()
    return _parted(rankings, is_held_out)


def deal_prompts(rankings: Sequence[Ranking], *, share: float, seed: int) -> tuple[Chosen, Chosen]:
    """The rankings of all but a share of the prompts, and of that share, exact to half a prompt and drawn by seed."""
    draws = np.fromiter((prompt_draw(ranking.prompt_id, seed) for ranking in rankings), float, len(rankings))
    prompts = np.unique(draws)
    return _parted(rankings, np.isin(draws, prompts[: round(share * len(prompts))]))


def _parted(rankings: Sequence[Ranking], is_second: np.ndarray) -> tuple[Chosen, Chosen]:
    return Chosen(rankings, np.flatnonzero(~is_second)), Chosen(rankings, np.flatnonzero(is_second))


def sizes_of(rankings: Sequence[Ranking]) -> np.ndarray:
    """K of every ranking."""
    return np.fromiter((len(ranking.ranks) for ranking in rankings), np.int64, len(rankings))
