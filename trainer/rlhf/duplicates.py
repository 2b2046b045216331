"""Near-duplicate prompts on both sides of a split: they would let memory pass for judgement.

A prompt is the set of its word triples; in scripts without spaces between words each character is a word. Of each
prompt a sketch is kept, the smallest hashes of the set (Broder 1997): some 200 bytes, however long the text. Pairs
whose sketches agree are read again and compared word for word.
"""

from __future__ import annotations

import re
import zlib
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, UInt32

from trainer.rlhf.data import Ranking
from trainer.rlhf.same_prompts import firsts_of

SHINGLE_WORDS = 3
SKETCH = 24  # smallest shingle hashes kept per prompt; of near-duplicates most are the same
LIMIT = 0.8
LIKELY = 0.5  # share of the smaller sketch that near-duplicates agree in all but surely
COMMON = 64  # prompts; a hash that more have in common is of a template's words, and only so many are looked at
RIVALS = 4  # prompts compared word for word with a held-out one: so many for its rare hashes and for its common ones
LISTED = 50
# Thai and Lao, Burmese, Khmer; kana, those of half width; Chinese characters.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\uff66-\uff9f\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")


class Sketches(NamedTuple):
    """The sketches of many prompts, as one list of hashes in rising order; and where each prompt's text stands."""

    hashes: UInt32[np.ndarray, " shingle"]
    prompt: Int[np.ndarray, " shingle"]
    size: Int[np.ndarray, " prompt"]
    source: Int[np.ndarray, "prompt 2"]  # part, ranking


def near_duplicates(train: Sequence[Sequence[Ranking]], held_out: Sequence[Ranking]) -> dict[str, Any]:
    """Held-out prompts whose word triples overlap a training prompt's by a Jaccard index of at least 0.8.

    `train` may come in parts. Cost and memory are linear in prompts; of many prompts made from one template only the
    first are compared.
    """
    ours = _sketches(train)
    found, count = [], 0
    for ranking in _first_of_each_prompt(held_out):
        count += 1
        shingles = _shingles(ranking)
        likeness = max(
            (
                (_jaccard(shingles, _shingles(rival)), rival.prompt_id)
                for rival in (train[part][place] for part, place in ours.source[_rivals(shingles, ours)].tolist())
            ),
            default=(0.0, ""),
        )
        if likeness[0] >= LIMIT:
            found.append({"held_out": ranking.prompt_id, "train": likeness[1], "jaccard": round(likeness[0], 3)})
    found.sort(key=lambda pair: (-pair["jaccard"], pair["held_out"]))
    return {"count": len(found), "of": count, "prompts": found[:LISTED]}


def _sketches(parts: Sequence[Sequence[Ranking]]) -> Sketches:
    hashes, sizes, source = array("I"), array("i"), array("q")
    for number, part in enumerate(parts):
        for place, ranking in _numbered_prompts(part):
            sketch = _sketch(_shingles(ranking))
            hashes.extend(sketch)
            sizes.append(len(sketch))
            source.extend((number, place))
    size, together = np.array(sizes), np.array(hashes)
    order = together.argsort(kind="stable")
    prompt = np.repeat(np.arange(len(size), dtype=np.int32), size)
    return Sketches(together[order], prompt[order], size, np.array(source).reshape(-1, 2))


def _rivals(shingles: set[int], ours: Sketches) -> Int[np.ndarray, " prompt"]:
    """The training prompts whose sketches agree most with that of these shingles, if they do well enough."""
    sketch = np.array(_sketch(shingles), dtype=np.uint32)
    starts, ends = (np.searchsorted(ours.hashes, sketch, side) for side in ("left", "right"))
    found = []
    for chosen in (ends - starts > COMMON, ends - starts <= COMMON):
        spans = zip(starts[chosen], np.minimum(ends, starts + COMMON)[chosen], strict=True)
        sharing = [ours.prompt[start:end] for start, end in spans]
        prompts, shared = np.unique(np.concatenate([ours.prompt[:0], *sharing]), return_counts=True)
        is_likely = shared >= LIKELY * np.minimum(ours.size[prompts], len(sharing))
        prompts, shared = prompts[is_likely], shared[is_likely]
        found.append(prompts[(-shared).argsort(kind="stable")[:RIVALS]])
    return np.unique(np.concatenate(found))


def _first_of_each_prompt(rankings: Sequence[Ranking]) -> Iterator[Ranking]:
    return (ranking for _, ranking in _numbered_prompts(rankings))


def _numbered_prompts(rankings: Sequence[Ranking]) -> Iterator[tuple[int, Ranking]]:
    """Each prompt's first ranking, with its place."""
    return ((place, rankings[place]) for place in np.unique(firsts_of(rankings)).tolist())


def _sketch(shingles: set[int]) -> list[int]:
    return sorted(shingles)[:SKETCH]


def _shingles(ranking: Ranking) -> set[int]:
    words = WORD.findall(" ".join(turn["content"] for turn in ranking.prompt).lower())
    starts = range(max(1, len(words) - SHINGLE_WORDS + 1))
    return {zlib.crc32(" ".join(words[start : start + SHINGLE_WORDS]).encode()) for start in starts}


def _jaccard(first: set[int], second: set[int]) -> float:
    return len(first & second) / len(first | second)
