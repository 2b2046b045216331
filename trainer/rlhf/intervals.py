"""95 % intervals of shares whose trials come in clusters: the pairs of one prompt are not independent.

Wilson's interval (1927) with the number of independent trials that the clusters leave,  n = p (1 - p) / Var(p).  Unlike
the normal interval, and a bootstrap of the clusters, it is never empty where all agree: one prompt proves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student_t

Z = 1.959964  # of a normal distribution 95 % lie nearer to its mean


class ShareInterval(NamedTuple):
    """A share with its 95 % interval."""

    value: float
    low: float
    high: float


def share_of_clusters(means: Sequence[float], *, most: int) -> ShareInterval:
    """The mean of cluster means in [0, 1], each cluster weighing the same; at most `most` trials are independent."""
    share = sum(means) / len(means)
    variance = sum((mean - share) ** 2 for mean in means) / max(1, len(means) - 1)
    trials = independent_trials(share, variance, len(means), least=len(means), most=most)
    return ShareInterval(share, *wilson(share, trials))


def share_of_trials(values: np.ndarray, clusters: np.ndarray, *, are_binary: bool = True) -> ShareInterval:
    """The mean of trials in [0, 1], each trial weighing the same, with the number of the cluster it belongs to.

    Trials that also come out halfway (`are_binary` False) vary less than p (1 - p): they count for more than they are.
    Their number then rests on the measured spread alone, of few clusters a guess: Student's t takes the place of z.
    """
    _, index = np.unique(clusters, return_inverse=True)
    sums, counts = np.bincount(index, values), np.bincount(index)
    share, size = float(values.mean()), len(counts)
    if size == 1:
        return ShareInterval(share, *wilson(share, 1))
    residuals = (sums - share * counts) / counts.mean()  # of a ratio of means
    variance = float((residuals**2).sum()) / (size - 1)
    most = len(values) if are_binary or variance <= 0 else math.inf
    trials = independent_trials(share, variance, size, least=1, most=most)
    quantile = Z if are_binary else float(student_t.ppf(0.975, size - 1))
    return ShareInterval(share, *wilson(share, trials, quantile))


def independent_trials(share: float, variance: float, clusters: int, *, least: int, most: float) -> float:
    """p (1 - p) / (variance between clusters / clusters), bounded; without any spread, the clusters."""
    spread = share * (1 - share)
    if variance <= 0:
        return most if spread > 0 else clusters
    return min(max(spread / variance * clusters, least), most)


def wilson(share: float, count: float, z: float = Z) -> tuple[float, float]:
    """Wilson's score interval of a share of `count` trials: never outside [0, 1], never empty at 0 or 1."""
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
