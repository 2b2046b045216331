"""Orderings with ties: what makes one complete, the pairs it holds, how far two agree. Pure Python."""

from collections.abc import Iterable, Mapping
from itertools import combinations
from math import sqrt
from typing import NamedTuple


class PreferencePair(NamedTuple):
    """`chosen` was ranked above `rejected`; `margin` is how many distinct ranks lie between them (1: neighbours)."""

    chosen: int
    rejected: int
    margin: int


def dense_ranks(ranks: Mapping[int, int]) -> dict[int, int]:
    """The same ordering with ranks 1, 2, 3, … and no gaps: {a: 10, b: 20, c: 20} becomes {a: 1, b: 2, c: 2}."""
    levels = {rank: level for level, rank in enumerate(sorted(set(ranks.values())), start=1)}
    return {item: levels[rank] for item, rank in ranks.items()}


def in_letters(ranks: Mapping[int, int], order: list[int]) -> str:
    """An ordering as its annotator saw it: "B > A = C", of the items as shown; one without a rank is left out."""
    levels: dict[int, list[str]] = {}
    for letter, item in zip("ABCDEFGHI", order, strict=False):
        if item in ranks:
            levels.setdefault(ranks[item], []).append(letter)
    return " > ".join(" = ".join(levels[rank]) for rank in sorted(levels))


def is_complete(ranks: Mapping[int, int], items: Iterable[int]) -> bool:
    """Every item has exactly one rank, a whole number from 1, and nothing else is ranked."""
    return set(ranks) == set(items) and all(type(rank) is int and rank >= 1 for rank in ranks.values())


def has_ties(ranks: Mapping[int, int]) -> bool:
    return len(set(ranks.values())) < len(ranks)


def preference_pairs(ranks: Mapping[int, int]) -> list[PreferencePair]:
    """Every ordered pair that the ranking holds; a tie holds none. K items without ties give K(K−1)/2."""
    dense = dense_ranks(ranks)
    pairs = []
    for a, b in combinations(sorted(dense), 2):
        if dense[a] != dense[b]:
            better, worse = (a, b) if dense[a] < dense[b] else (b, a)
            pairs.append(PreferencePair(better, worse, dense[worse] - dense[better]))
    return pairs


def kendall_tau_b(a: Mapping[int, int], b: Mapping[int, int]) -> float | None:
    """Kendall's τ-b over the items both ranked: (concordant − discordant) / √((n₀ − ties in a)(n₀ − ties in b)).

    1 is the same order, −1 the reverse. None where one of the two ties everything: then there is no order to compare.
    """
    concordance = untied_a = untied_b = 0
    for x, y in combinations(sorted(set(a) & set(b)), 2):
        sign_a, sign_b = (a[x] > a[y]) - (a[x] < a[y]), (b[x] > b[y]) - (b[x] < b[y])
        concordance += sign_a * sign_b
        untied_a += sign_a != 0
        untied_b += sign_b != 0
    if not untied_a or not untied_b:
        return None
    return concordance / sqrt(untied_a * untied_b)
