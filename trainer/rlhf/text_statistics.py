"""What reward and losses do not show: length, repetition, diversity. Token-based, so the same for every language."""

from __future__ import annotations

import math
from collections.abc import Sequence


def distinct(completions: Sequence[Sequence[int]], n: int) -> float:
    """Distinct n-grams over all n-grams of a set of completions (Li et al. 2016); 0 if there are none."""
    grams = [gram for ids in completions for gram in _grams(ids, n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def repetition(completions: Sequence[Sequence[int]], n: int = 3) -> float:
    """Mean share of a completion's n-grams that it has written before."""
    shares = [1 - len(set(grams)) / len(grams) for ids in completions if (grams := _grams(ids, n))]
    return sum(shares) / len(shares) if shares else 0.0


def duplicate_share(completions: Sequence[Sequence[int]]) -> float:
    """Share of completions that equal an earlier one."""
    return 1 - len({tuple(ids) for ids in completions}) / len(completions) if completions else 0.0


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value with at least `share` of all at or under it."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _grams(ids: Sequence[int], n: int) -> list[tuple[int, ...]]:
    return [tuple(ids[start : start + n]) for start in range(len(ids) - n + 1)]
