"""Which pairs a reward model orders as people did, by one rule for both sides of a benchmark."""

from __future__ import annotations

from collections.abc import Sequence


def wins(ranks: Sequence[int], texts: Sequence[str]) -> list[tuple[int, int]]:
    """Places in a ranking of each two of different rank, the better first. Two equal texts make no pair, as in ours."""
    places = range(len(ranks))
    return [(a, b) for a in places for b in places if ranks[a] < ranks[b] and texts[a] != texts[b]]


def right_pairs(scores: Sequence[float], ranks: Sequence[int], texts: Sequence[str]) -> tuple[float, int]:
    """Of a ranking, the pairs in the right order (equal scores count half), and all pairs."""
    pairs = wins(ranks, texts)
    right = sum(1.0 if scores[a] > scores[b] else 0.5 * (scores[a] == scores[b]) for a, b in pairs)
    return right, len(pairs)
