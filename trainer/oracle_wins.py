"""How often an oracle prefers one checkpoint's completions to another's, with an interval that knows about prompts.

The oracle is the hidden preference of the synthetic annotators: a function of (prompt, completions) that no part of
the loop has seen. Pure Python and numpy.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from trainer.rlhf.intervals import share_of_clusters

Oracle = Callable[[str, list[str]], list[float]]


class WinRate(NamedTuple):
    """A share between 0 and 1, its 95 % interval, and how many prompts and pairs it rests on."""

    value: float
    low: float
    high: float
    prompts: int
    pairs: int

    def __str__(self) -> str:
        return f"{self.value:.0%} [{self.low:.0%}, {self.high:.0%}]"


def win_rate(oracle: Oracle, prompts: list[str], candidate: list[list[str]], other: list[list[str]]) -> WinRate:
    """P(candidate beats other) + ½ P(tie), over all pairs of completions of the same prompt, prompts weighing alike.

    The interval knows that completions of one prompt are not independent (`trainer/rlhf/intervals.py`).
    """
    by_prompt = [
        wins_of_prompt(oracle(prompt, ours), oracle(prompt, theirs))
        for prompt, ours, theirs in zip(prompts, candidate, other, strict=True)
    ]
    pairs = sum(len(ours) * len(theirs) for ours, theirs in zip(candidate, other, strict=True))
    return WinRate(*share_of_clusters(by_prompt, most=sum(map(len, candidate))), len(by_prompt), pairs)


def wins_of_prompt(ours: list[float], theirs: list[float]) -> float:
    difference = np.subtract.outer(np.asarray(ours), np.asarray(theirs))
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())
