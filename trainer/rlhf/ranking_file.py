"""Rankings that stay on disk: a line is checked once and read again when it is asked for.

A ranking takes 8 bytes of memory, the place of its line; one that was `Chosen` from them takes 8 more. Both are
sequences of `Ranking` like any list, so that what reads rankings need not know where they are. The file must not change
meanwhile.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from trainer.rlhf.data import Ranking, numbered_lines, parse_ranking, prompt_draw, prompt_key, same_id
from trainer.rlhf.same_prompts import SamePrompts


class Rankings(Sequence[Ranking]):
    """Rankings that are fetched one by one: `fetch` says how."""

    @abstractmethod
    def fetch(self, place: int) -> Ranking:
        """The ranking at a place from 0 on."""

    @overload
    def __getitem__(self, place: int) -> Ranking: ...
    @overload
    def __getitem__(self, place: slice) -> list[Ranking]: ...
    def __getitem__(self, place):
        if isinstance(place, slice):
            return [self.fetch(number) for number in range(*place.indices(len(self)))]
        return self.fetch(range(len(self))[place])


class RankingFile(Rankings):
    """The rankings of a `rankings.jsonl`; raises `DataError` at a line that is not one or has the id of an earlier."""

    def __init__(self, path: Path | str):
        self.path, self._starts, ids = Path(path), array("q"), array("q")
        for start, record, where in numbered_lines(self.path):
            ids.append(hash(parse_ranking(record, where).id))  # 8 bytes, and nearly as good at telling them apart
            self._starts.append(start)
        if len(np.unique(ids)) < len(ids):
            self._check_ids()

    def _check_ids(self) -> None:
        seen: dict[str, str] = {}
        for _, record, where in numbered_lines(self.path):
            identity = parse_ranking(record, where).id
            if identity in seen:
                raise same_id(where, seen[identity], identity)
            seen[identity] = where

    def __len__(self) -> int:
        return len(self._starts)

    def fetch(self, place: int) -> Ranking:
        with self.path.open("rb") as file:
            file.seek(self._starts[place])
            return parse_ranking(json.loads(file.readline()), self.path.name)

    def __iter__(self) -> Iterator[Ranking]:
        return (parse_ranking(record, where) for _, record, where in numbered_lines(self.path))


class Chosen(Rankings):
    """Some of the rankings, by their numbers, in that order."""

    def __init__(self, rankings: Sequence[Ranking], numbers: np.ndarray):
        self.rankings, self.numbers = rankings, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def fetch(self, place: int) -> Ranking:
        return self.rankings[int(self.numbers[place])]


def split_by_prompt(
    rankings: Sequence[Ranking], *, held_out_share: float, seed: int, splits: Mapping[str, str]
) -> tuple[Chosen, Chosen]:
    """Training and held-out rankings; a prompt is never on both sides, whatever its ids (`same_prompts.py`).

    A `split` in the file decides, and that of the prompt in `splits`, by its id or its `prompt_key`: held out where one
    of them says so. Prompts of which nothing is said are dealt by a hash of seed and id (the first of several), so that
    the same prompt falls on the same side in every run of the same seed, however many rankings join. Where all that
    holds nothing out, one prompt is, unless the share is 0: that with the lowest draw, of those dealt if there are any.
    What weighs 0 is not trained on.
    """
    draws, weights, said = np.empty(len(rankings)), np.empty(len(rankings)), np.empty(len(rankings), dtype="U8")
    same = SamePrompts()
    for number, ranking in enumerate(rankings):
        same.add(ranking)
        draws[number], weights[number] = prompt_draw(ranking.prompt_id, seed), ranking.weight
        said[number] = _split_of(ranking, splits)
    draws = draws[same.firsts()]
    is_train = np.isin(draws, draws[said == "train"])
    is_held_out = (draws < held_out_share) & ~is_train | np.isin(draws, draws[said == "held_out"])
    if held_out_share > 0 and not is_held_out.any() and len(draws) and draws.min() < draws.max():
        is_held_out = draws == (draws if is_train.all() else draws[~is_train]).min()
    is_learned = ~is_held_out & (weights > 0)
    return Chosen(rankings, np.flatnonzero(is_learned)), Chosen(rankings, np.flatnonzero(is_held_out))


def _split_of(ranking: Ranking, splits: Mapping[str, str]) -> str:
    if not splits:
        return ranking.split or ""
    said = {ranking.split, splits.get(ranking.prompt_id), splits.get(prompt_key(ranking.prompt))}
    return next((split for split in ("held_out", "train") if split in said), "")


def deal_prompts(rankings: Sequence[Ranking], *, share: float, seed: int) -> tuple[Chosen, Chosen]:
    """The rankings of all but a share of the prompts, and of that share, exact to half a prompt and drawn by seed."""
    draws, same = np.empty(len(rankings)), SamePrompts()
    for number, ranking in enumerate(rankings):
        draws[number] = prompt_draw(ranking.prompt_id, seed)
        same.add(ranking)
    draws = draws[same.firsts()]
    prompts = np.unique(draws)
    is_dealt = np.isin(draws, prompts[: round(share * len(prompts))])
    return Chosen(rankings, np.flatnonzero(~is_dealt)), Chosen(rankings, np.flatnonzero(is_dealt))


def sizes_of(rankings: Sequence[Ranking]) -> np.ndarray:
    """K of every ranking."""
    return np.fromiter((len(ranking.ranks) for ranking in rankings), np.int64, len(rankings))
