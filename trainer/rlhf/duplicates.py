"""Near-duplicate prompts on both sides of a split: they would let memory pass for judgement."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from trainer.rlhf.data import Ranking

SHINGLE_WORDS = 3
SKETCH = 24  # smallest shingle hashes kept per prompt; near-duplicates share one all but surely
LIMIT = 0.8
LISTED = 50


def near_duplicates(train: Sequence[Ranking], held_out: Sequence[Ranking]) -> dict[str, Any]:
    """Held-out prompts whose word triples overlap a training prompt's by a Jaccard index of at least 0.8.

    Candidates are found through the smallest hashes of each prompt's triples, so that cost is linear in prompts.
    """
    ours, theirs = _shingles(train), _shingles(held_out)
    index: dict[int, list[str]] = defaultdict(list)
    for prompt, shingles in ours.items():
        for shingle in sorted(shingles)[:SKETCH]:
            index[shingle].append(prompt)
    found = []
    for prompt, shingles in theirs.items():
        rivals = {rival for shingle in sorted(shingles)[:SKETCH] for rival in index.get(shingle, ())}
        likeness = max(((_jaccard(shingles, ours[rival]), rival) for rival in rivals), default=(0.0, ""))
        if likeness[0] >= LIMIT:
            found.append({"held_out": prompt, "train": likeness[1], "jaccard": round(likeness[0], 3)})
    found.sort(key=lambda pair: (-pair["jaccard"], pair["held_out"]))
    return {"count": len(found), "of": len(theirs), "prompts": found[:LISTED]}


def _shingles(rankings: Sequence[Ranking]) -> dict[str, set[int]]:
    texts = {ranking.prompt_id: " ".join(turn["content"] for turn in ranking.prompt) for ranking in rankings}
    return {prompt: _triples(text.lower().split()) for prompt, text in texts.items()}


def _triples(words: list[str]) -> set[int]:
    starts = range(max(1, len(words) - SHINGLE_WORDS + 1))
    return {zlib.crc32(" ".join(words[start : start + SHINGLE_WORDS]).encode()) for start in starts}


def _jaccard(first: set[int], second: set[int]) -> float:
    return len(first & second) / len(first | second)
