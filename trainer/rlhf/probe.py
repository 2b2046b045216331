"""Linear Bradley-Terry probes on frozen features, and the choice of poolings, layers and ridges by cross-validation.

    min_w  sum_p a_p [ -t_p log s(w·d_p) - (1-t_p) log s(-w·d_p) ] / sum_p a_p  +  l2/2 |w|^2

with d_p the difference of winner's and loser's features, each dimension divided by its root mean square over the pairs
(so that one ridge suits every layer), t_p the target and a_p the weight. Convex; solved by Newton's method.
With few hundred rankings this beats fine-tuning by far, and its cost is one forward of the trunk.

Left out: the other losses of `reward_loss.py`. They serve where weights of the trunk are trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import softplus

from trainer.rlhf.blend import select_blend
from trainer.rlhf.feature_rows import BLOCK_ROWS, Features
from trainer.rlhf.pairs import Pairs

RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # the search starts from the fourth
SEARCH_TOLERANCE = 1e-4  # nats a pair that Newton may leave undone while settings are compared
CHUNK_PAIRS = 2048  # differences held in memory at once


class Candidate(NamedTuple):
    """One setting of the probe, and how its out-of-fold predictions did."""

    pooling: str
    layer: int
    l2: float
    accuracy: float
    nll: float

    @property
    def reading(self) -> tuple[str, int]:
        return self.pooling, self.layer


class Member(NamedTuple):
    """A setting in the blend: its probe's scores enter the sum with `factor`."""

    pooling: str
    layer: int
    l2: float
    factor: float

    @property
    def reading(self) -> tuple[str, int]:
        return self.pooling, self.layer


class Choice(NamedTuple):
    """All settings tried, the best by out-of-fold likelihood first, and those whose sum is the score (`blend.py`)."""

    candidates: list[Candidate]
    blend: list[Member]


def fit_probe(
    features: Features,
    pairs: Pairs,
    l2: float,
    *,
    start: Float[Tensor, " hidden"] | None = None,
    tolerance: float = 1e-6,
) -> Float[Tensor, " hidden"]:
    """The weight vector for raw features (the scaling folded in); raises ValueError without pairs.

    Newton ends when the next step promises to lower the loss by less than `tolerance`.
    """
    if not len(pairs.winner):
        raise ValueError("a probe needs at least one pair of completions with different ranks")
    scale = difference_scale(features, pairs)
    weight = torch.zeros(features.shape[1], dtype=torch.float64) if start is None else start * scale
    share = pairs.weight / pairs.weight.sum()
    loss, gradient, hessian = _objective(features, pairs, share, scale, weight, l2)
    for _ in range(50):
        step = torch.cholesky_solve(gradient[:, None], torch.linalg.cholesky(hessian))[:, 0]
        decrement = float(gradient @ step)
        if decrement < tolerance:
            break
        size = 1.0
        while size > 1e-4:
            trial = _objective(features, pairs, share, scale, weight - size * step, l2)
            if trial[0] <= loss - 1e-4 * size * decrement:
                break
            size /= 2
        else:
            break  # no step lowers it: rounding is all that is left
        weight = weight - size * step
        loss, gradient, hessian = trial
    return weight / scale


def _differences(features: Features, pairs: Pairs, chunk: slice) -> Float[Tensor, "pair hidden"]:
    winners, losers = features[torch.cat([pairs.winner[chunk], pairs.loser[chunk]])].chunk(2)
    return (winners - losers).double()


def _chunks(pairs: Pairs) -> list[slice]:
    return [slice(start, start + CHUNK_PAIRS) for start in range(0, len(pairs.winner), CHUNK_PAIRS)]


def difference_scale(features: Features, pairs: Pairs) -> Float[Tensor, " hidden"]:
    """Root mean square of each dimension's difference over the pairs; 1 where there is none."""
    squares = sum(_differences(features, pairs, chunk).square().sum(0) for chunk in _chunks(pairs))
    scale = (squares / len(pairs.winner)).sqrt()
    return torch.where(scale > 1e-8, scale, 1.0)


def _objective(
    features: Features, pairs: Pairs, share: Tensor, scale: Tensor, weight: Tensor, l2: float
) -> tuple[float, Float[Tensor, " hidden"], Float[Tensor, "hidden hidden"]]:
    """Loss, gradient and Hessian of the ridge-penalised Bradley-Terry likelihood."""
    loss = 0.5 * l2 * float(weight @ weight)
    gradient = l2 * weight
    hessian = l2 * torch.eye(len(weight), dtype=torch.float64)
    for chunk in _chunks(pairs):
        difference = _differences(features, pairs, chunk) / scale
        delta, target, a = difference @ weight, pairs.target[chunk], share[chunk]
        chance = delta.sigmoid()
        loss += float((a * (softplus(-delta) + (1 - target) * delta)).sum())
        gradient = gradient + difference.T @ (a * (chance - target))
        root = (difference * (a * chance * (1 - chance)).sqrt()[:, None]).float()
        hessian = hessian + (root.T @ root).double()  # fp32 halves the cost; a step's direction need not be exact
    return loss, gradient, hessian


def deltas(features: Features, weight: Float[Tensor, " hidden"], pairs: Pairs) -> Float[Tensor, " pair"]:
    """r_winner - r_loser of each pair."""
    rows, places = torch.cat([pairs.winner, pairs.loser]).unique(return_inverse=True)
    scores = torch.cat([features[part].double() @ weight.double() for part in rows.split(BLOCK_ROWS)])
    winner, loser = scores[places].chunk(2)
    return winner - loser


def out_of_fold_deltas(
    features: Features, pairs: Pairs, folds: Int[Tensor, " pair"], l2s: Sequence[float]
) -> dict[float, Float[Tensor, " pair"]]:
    """For each ridge, the score difference of every pair by the probe that was fitted without its fold."""
    predictions = {l2: torch.empty(len(pairs.winner), dtype=torch.float64) for l2 in l2s}
    for fold in folds.unique():
        inside, outside = pairs.where(folds != fold), pairs.where(folds == fold)
        weight = None
        for l2 in sorted(l2s, reverse=True):  # the strong ridge's solution starts the weaker one's search
            weight = fit_probe(features, inside, l2, start=weight, tolerance=SEARCH_TOLERANCE)
            predictions[l2][folds == fold] = deltas(features, weight, outside)
    return predictions


def pair_accuracy(scores: Float[Tensor, " completion"], pairs: Pairs) -> float:
    """Share of the decided pairs whose winner has the higher score."""
    return _accuracy(scores[pairs.winner] - scores[pairs.loser], pairs)


def _accuracy(delta: Float[Tensor, " pair"], pairs: Pairs) -> float:
    """An undecided score counts half."""
    delta = delta[pairs.target != 0.5]
    return float(((delta > 0).double() + 0.5 * (delta == 0).double()).mean())


def _nll(delta: Float[Tensor, " pair"], pairs: Pairs) -> float:
    nll = softplus(-delta) + (1 - pairs.target) * delta
    return float((pairs.weight * nll).sum() / pairs.weight.sum())


def choose(
    features: Mapping[tuple[str, int], Features],
    pairs: Pairs,
    folds: Int[Tensor, " pair"],
    *,
    l2: float | None = None,
    finalists: int = 3,
    most: int = 4,
) -> Choice:
    """Tries every reading, and blends at most `most` of them.

    Likelihood and not accuracy decides: with a few hundred pairs accuracy is a coin's noise apart between neighbours.
    Every pooling and layer runs with one middling ridge; the `finalists` run with all of them.
    """
    first = (l2,) if l2 is not None else (RIDGES[len(RIDGES) // 2],)
    tried = [_try(features, reading, first, pairs, folds) for reading in features]
    if l2 is None:
        rest = tuple(ridge for ridge in RIDGES if ridge not in first)
        best = sorted(tried, key=lambda trials: trials[0][0].nll)[:finalists]
        tried += [_try(features, trials[0][0].reading, rest, pairs, folds) for trials in best]
    ordered = sorted((trial for trials in tried for trial in trials), key=lambda trial: trial[0].nll)
    candidates = [candidate for candidate, _ in ordered]
    shares = select_blend(torch.stack([prediction for _, prediction in ordered]), pairs, most=max(1, most))
    return Choice(candidates, [Member(*candidates[share.setting][:3], share.factor) for share in shares])


def _try(
    features: Mapping[tuple[str, int], Features],
    reading: tuple[str, int],
    l2s: Sequence[float],
    pairs: Pairs,
    folds: Int[Tensor, " pair"],
) -> list[tuple[Candidate, Float[Tensor, " pair"]]]:
    """One reading with some ridges: how each did, and what it predicted."""
    return [
        (Candidate(*reading, l2, _accuracy(delta, pairs), _nll(delta, pairs)), delta)
        for l2, delta in out_of_fold_deltas(features[reading], pairs, folds, l2s).items()
    ]


def fit_blend(
    features: Mapping[tuple[str, int], Features], blend: Sequence[Member], pairs: Pairs
) -> dict[tuple[str, int], Float[Tensor, " hidden"]]:
    """The weights of each reading, fp64: its members' probes, fitted on these pairs, times their factors."""
    weights: dict[tuple[str, int], Tensor] = {}
    for member in blend:
        own = member.factor * fit_probe(features[member.reading], pairs, member.l2)
        weights[member.reading] = weights[member.reading] + own if member.reading in weights else own
    return weights


def blend_deltas(
    features: Mapping[tuple[str, int], Features],
    weights: Mapping[tuple[str, int], Float[Tensor, " hidden"]],
    pairs: Pairs,
) -> Float[Tensor, " pair"]:
    """r_winner - r_loser of each pair, over all readings."""
    return torch.stack([deltas(features[reading], weight, pairs) for reading, weight in weights.items()]).sum(0)
