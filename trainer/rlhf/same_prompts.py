"""Which rankings are of one prompt: those of one `prompt_id`, and those whose prompts are the same, word for word.

Data that others gathered often has an id for each of its rows. What was learned of a prompt under one id must not be
asked under another, in any split or fold.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np
from jaxtyping import Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from trainer.rlhf.data import Ranking, prompt_key


class SamePrompts:
    """Rankings as they are read, 16 bytes of each: a hash tells names apart as well as a text."""

    def __init__(self) -> None:
        self._names = array("q")

    def add(self, ranking: Ranking) -> None:
        self._names.extend((hash(ranking.prompt_id), hash(prompt_key(ranking.prompt))))

    def firsts(self) -> Int[np.ndarray, " ranking"]:
        """For each ranking the place of the first one of its prompt: equal numbers are one prompt."""
        if not self._names:
            return np.zeros(0, np.int64)
        names, numbers = np.unique(np.array(self._names), return_inverse=True)
        ids, keys = numbers.reshape(-1, 2).T
        links = coo_array((np.ones(len(ids), bool), (ids, keys)), shape=(len(names), len(names)))
        _, prompt_of_name = connected_components(links, directed=False)
        _, first, prompt = np.unique(prompt_of_name[ids], return_index=True, return_inverse=True)
        return first[prompt]


def firsts_of(rankings: Iterable[Ranking]) -> Int[np.ndarray, " ranking"]:
    """`SamePrompts.firsts` of these rankings."""
    same = SamePrompts()
    for ranking in rankings:
        same.add(ranking)
    return same.firsts()
