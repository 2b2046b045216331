"""Goodhart's law, watched: the score that is optimised rises while an independent judge's falls.

With d = sqrt(KL(pi || pi_ref)), the true score follows  gold(d) - gold(0) = d (alpha - beta log d)  under reinforcement
learning (Gao et al. 2210.10760, eq. 1), so it peaks at  log d* = alpha / beta - 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

FEWEST_ROOT_NATS = 0.03  # d under which a rollout counts as the reference's own
FEWEST_UPDATES = 10  # before the peak of a fit is believed: it has three parameters, and every update asks anew
SURE = 3.0  # standard errors by which the fitted curve must fall
LATEST = 3  # rollouts that say where the policy stands: the KL of one is noisy


class GoldFit(NamedTuple):
    """Least-squares alpha and beta, and the KL in nats at which gold peaks; None if it never does."""

    alpha: float
    beta: float
    peak_kl: float | None


def fit_gold(kl: Sequence[float], gold: Sequence[float]) -> GoldFit | None:
    """The fit over updates; None with fewer than four points of positive KL.

    gold(0) is fitted as well: a later turn's first rollout is already some nats from the reference.
    """
    d, columns = _curve(kl)
    if np.count_nonzero(d > FEWEST_ROOT_NATS) < 4:
        return None
    _, alpha, beta = np.linalg.lstsq(columns, np.asarray(gold, dtype=float), rcond=None)[0]
    exponent = 2 * (alpha / beta - 1) if beta > 0 else math.inf
    return GoldFit(float(alpha), float(beta), math.exp(exponent) if exponent < 50 else None)


def is_past_peak(kl: Sequence[float], gold: Sequence[float]) -> bool:
    """Whether the fitted curve peaks, and surely falls where the policy stands now: its d is past d*.

    With x = (0, 1, -1 - log d) at the mean d of the latest rollouts, the fit's slope there is

        gold'(d) = alpha - beta - beta log d = x . (gold(0), alpha, beta),   se^2 = s^2 x' (X'X)^-1 x,

    s^2 being the residuals' variance; asked for are beta > 0 and gold'(d) < -3 se, after ten updates at least. As
    gold' is zero at d*, that is the test that d* < d, and it needs no error of the ratio alpha / beta (Fieller 1954). A
    fit that does not explain the curve has a large s and never passes; neither does a peak ahead of what was seen,
    which is a guess until it is reached.
    """
    if len(gold) < FEWEST_UPDATES:
        return False
    (d, columns), gold = _curve(kl), np.asarray(gold, dtype=float)
    solution, _, rank, _ = np.linalg.lstsq(columns, gold, rcond=None)
    if rank < 3 or np.ptp(gold) == 0:
        return False
    x = np.array([0.0, 1.0, -1.0 - math.log(max(d[-LATEST:].mean(), FEWEST_ROOT_NATS))])
    variance = np.square(gold - columns @ solution).sum() / (len(gold) - 3)
    error = math.sqrt(variance * (x @ np.linalg.inv(columns.T @ columns) @ x))
    return bool(solution[2] > 0 and x @ solution < -SURE * error)


def favourite(judge: Sequence[float]) -> int | None:
    """Which rollout's policy the judge likes best: the last of the three in a row with the highest mean, from 0.

    None with fewer than three: one rollout's judge is noisy, and a mean of fewer would win by its noise.
    """
    means = [sum(judge[end - LATEST : end]) / LATEST for end in range(LATEST, len(judge) + 1)]
    return means.index(max(means)) + LATEST - 1 if means else None


def _curve(kl: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """d of each rollout, and the columns 1, d, -d log d that gold is linear in."""
    d = np.sqrt(np.clip(kl, 0.0, None))
    return d, np.stack([np.ones_like(d), d, -d * np.log(np.maximum(d, FEWEST_ROOT_NATS))], axis=1)


def is_overoptimised(scores: Sequence[float], judge: Sequence[float], patience: int) -> bool:
    """Whether over the last `patience` updates, against those before, the score rose and the judge clearly fell.

    Clearly: by more than twice the standard error of the difference of the two means.
    """
    if len(judge) < 2 * patience:
        return False
    before, after = np.array(judge[-2 * patience : -patience]), np.array(judge[-patience:])
    rise = np.mean(scores[-patience:]) - np.mean(scores[-2 * patience : -patience])
    error = math.sqrt((before.var(ddof=1) + after.var(ddof=1)) / patience)
    return bool(rise > 0 and after.mean() < before.mean() - 2 * error)
