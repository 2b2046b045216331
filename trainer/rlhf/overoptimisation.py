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


class GoldFit(NamedTuple):
    """Least-squares alpha and beta, and the KL in nats at which gold peaks (infinite if it never does)."""

    alpha: float
    beta: float
    peak_kl: float


def fit_gold(kl: Sequence[float], gold: Sequence[float]) -> GoldFit | None:
    """The fit over updates; None with fewer than four points of positive KL.

    gold(0) is fitted as well: a later turn's first rollout is already some nats from the reference.
    """
    d = np.sqrt(np.clip(kl, 0.0, None))
    if np.count_nonzero(d > FEWEST_ROOT_NATS) < 4:
        return None
    d_log_d = d * np.log(np.maximum(d, FEWEST_ROOT_NATS))
    columns = np.stack([np.ones_like(d), d, -d_log_d], axis=1)
    _, alpha, beta = np.linalg.lstsq(columns, np.asarray(gold, dtype=float), rcond=None)[0]
    exponent = 2 * (alpha / beta - 1) if beta > 0 else math.inf
    return GoldFit(float(alpha), float(beta), math.exp(exponent) if exponent < 50 else math.inf)


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
