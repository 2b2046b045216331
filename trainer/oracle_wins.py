"""How often an oracle prefers one checkpoint's completions to another's, with an interval that knows about prompts.

The oracle is the hidden preference of the synthetic annotators: a function of (prompt, completions) that no part of
the loop has seen. Pure Python and numpy.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

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


def win_rate(
    oracle: Oracle, prompts: list[str], candidate: list[list[str]], other: list[list[str]], *, seed: int = 0
) -> WinRate:
    """P(candidate beats other) + ½ P(tie), over all pairs of completions of the same prompt, prompts weighing alike.

    The interval is a percentile bootstrap over prompts (10,000 draws): completions of one prompt are not independent.
    """
    by_prompt = np.array(
        [
            wins_of_prompt(oracle(prompt, ours), oracle(prompt, theirs))
            for prompt, ours, theirs in zip(prompts, candidate, other, strict=True)
        ]
    )
    draws = np.random.default_rng(seed).integers(len(by_prompt), size=(10_000, len(by_prompt)))
    low, high = np.quantile(by_prompt[draws].mean(axis=1), [0.025, 0.975])
    pairs = sum(len(ours) * len(theirs) for ours, theirs in zip(candidate, other, strict=True))
    return WinRate(float(by_prompt.mean()), float(low), float(high), len(by_prompt), pairs)


def wins_of_prompt(ours: list[float], theirs: list[float]) -> float:
    difference = np.subtract.outer(np.asarray(ours), np.asarray(theirs))
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())
