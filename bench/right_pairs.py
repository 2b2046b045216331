"""Which pairs a reward model orders as people did, by one rule for both sides of a benchmark."""

from __future__ import annotations

from collections.abc import Sequence


def right_pairs(scores: Sequence[float], ranks: Sequence[int]) -> tuple[float, int]:
    """Of a ranking, the pairs of different rank in the right order (equal scores count half), and all such pairs."""
    places = range(len(ranks))
    wins = [(better, worse) for better in places for worse in places if ranks[better] < ranks[worse]]
    right = sum(1.0 if scores[a] > scores[b] else 0.5 * (scores[a] == scores[b]) for a, b in wins)
    return right, len(wins)
