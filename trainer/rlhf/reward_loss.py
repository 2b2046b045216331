"""Losses of scores under rankings: Bradley-Terry over all pairs of a ranking, Plackett-Luce over the whole order.

Each takes one score a completion: a ranking of K costs K forwards and not K(K-1). `logsigmoid` throughout; MOSS-RLHF's
`log(sigmoid + 1e-5)` has no gradient left on pairs that are badly wrong, which are the ones to learn from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from trainer.rlhf.pairs import Pairs

MOST_TIED = 10  # in a group that Plackett-Luce sums over: each more doubles the time, and ten take half a second


def pairwise_loss(
    scores: Float[Tensor, " completion"],
    pairs: Pairs,
    *,
    ties: str = "half",
    tie_parameter: float = 0.5,
    margin: Float[Tensor, " pair"] | None = None,
    centring: float = 0.0,
) -> Float[Tensor, ""]:
    """Sum over rankings of weight times the mean over its pairs, over the sum of weights (2203.02155, eq. 1).

    A decided pair costs -[t log s(D-m) + (1-t) log s(m-D)] with D = r_w - r_l, target t (label smoothing alpha is
    t = 1 - alpha, least at D = log((1-alpha)/alpha)) and margin m, or -m where t is below 1/2: it is asked of the side
    that the target prefers, which of a flipped pair is the loser. Ties by `ties`: `half` is the same with t = 1/2;
    `rao_kupper` and `davidson` give ties a probability of their own; `drop` expects pairs made without ties.
    `centring` adds c (r_w + r_l)^2 (2312.09244), which pins down the score's free constant.
    """
    delta = scores[pairs.winner] - scores[pairs.loser]
    is_tie = pairs.target == 0.5
    shifted = delta if margin is None else delta - margin * (pairs.target - 0.5).sign().to(margin)
    if ties == "rao_kupper":
        loss = torch.where(is_tie, _rao_kupper_tie(delta, tie_parameter), _two_sided(shifted, pairs, tie_parameter))
    elif ties == "davidson":
        loss = torch.where(is_tie, _davidson_tie(delta, tie_parameter), _davidson_win(shifted, pairs, tie_parameter))
    else:
        loss = _two_sided(shifted, pairs)
    if centring:
        loss = loss + centring * (scores[pairs.winner] + scores[pairs.loser]) ** 2
    return (pairs.weight * loss).sum() / pairs.weight.sum()


def _two_sided(delta: Float[Tensor, " pair"], pairs: Pairs, log_theta: float = 0.0) -> Float[Tensor, " pair"]:
    """-[t log P(win) + (1 - t) log P(loss)], each s(+-D - log theta): without ties theta is 1."""
    return -(pairs.target * logsigmoid(delta - log_theta) + (1 - pairs.target) * logsigmoid(-delta - log_theta))


def _rao_kupper_tie(delta: Float[Tensor, " pair"], log_theta: float) -> Float[Tensor, " pair"]:
    """-log P(tie), P(tie) = (theta^2 - 1) s(D - log theta) s(-D - log theta); Rao and Kupper 1967."""
    constant = torch.log(torch.expm1(torch.tensor(2 * log_theta, dtype=delta.dtype)))
    return -(constant + logsigmoid(delta - log_theta) + logsigmoid(-delta - log_theta))


def _davidson(delta: Float[Tensor, " pair"], log_nu: float) -> Float[Tensor, "pair 3"]:
    """log P of win, tie, loss: softmax of (D/2, log nu, -D/2); Davidson 1970."""
    return torch.stack([delta / 2, torch.full_like(delta, log_nu), -delta / 2], dim=-1).log_softmax(-1)


def _davidson_tie(delta: Float[Tensor, " pair"], log_nu: float) -> Float[Tensor, " pair"]:
    return -_davidson(delta, log_nu)[:, 1]


def _davidson_win(delta: Float[Tensor, " pair"], pairs: Pairs, log_nu: float) -> Float[Tensor, " pair"]:
    win, _, loss = _davidson(delta, log_nu).unbind(-1)
    return -(pairs.target * win + (1 - pairs.target) * loss)


def plackett_luce_loss(
    scores: Float[Tensor, " completion"], ranks: Sequence[Sequence[int]], weights: Sequence[float]
) -> Float[Tensor, ""]:
    """Weighted mean of -log P(order) over rankings whose completions follow one another in `scores`."""
    start, total = 0, scores.new_zeros(())
    for order, weight in zip(ranks, weights, strict=True):
        total = total - weight * plackett_luce_log_likelihood(scores[start : start + len(order)], order)
        start += len(order)
    return total / sum(weights)


def plackett_luce_log_likelihood(scores: Float[Tensor, " completion"], ranks: Sequence[int]) -> Float[Tensor, ""]:
    """log P of an order in which the best of those left is drawn with chance exp(r_i) / sum exp(r_j); Plackett 1975.

    Ties say that the order among them is not known: the likelihood sums over their orders. Of the last group every
    order is allowed, which has probability 1, so that a partial ranking stops early by itself.
    """
    groups = [[place for place, rank in enumerate(ranks) if rank == level] for level in sorted(set(ranks))]
    log_likelihood = scores.new_zeros(())
    for number, group in enumerate(groups[:-1]):
        worse = [place for later in groups[number + 1 :] for place in later]
        log_likelihood = log_likelihood + _any_order(scores[group], scores[worse].logsumexp(0))
    return log_likelihood


def tied_above(ranks: Sequence[int]) -> int:
    """The completions in the largest group of ties that Plackett-Luce sums over: not in the last."""
    counts = Counter(ranks)
    counts.pop(max(ranks))
    return max(counts.values(), default=0)


def _any_order(group: Float[Tensor, " tied"], rest: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """log P that the group is drawn before the rest, in any order: a sum over subsets, not over permutations."""
    count = len(group)
    ways = [group.new_zeros(())]  # by bit set of those of the group still to be drawn
    for left in range(1, 2**count):
        members = [place for place in range(count) if left >> place & 1]
        mass = torch.logaddexp(group[members].logsumexp(0), rest)
        ways.append(torch.stack([group[place] - mass + ways[left & ~(1 << place)] for place in members]).logsumexp(0))
    return ways[-1]


def info_nce(
    first: Float[Tensor, "completion hidden"], second: Float[Tensor, "completion hidden"], *, temperature: float = 0.05
) -> Float[Tensor, ""]:
    """SimCSE (2104.08821, eq. 4): each completion's two dropout views attract, those of others repel."""
    similarity = torch.nn.functional.cosine_similarity(first[:, None], second[None], dim=-1) / temperature
    return -similarity.log_softmax(-1).diagonal().mean()


def spread(scores: Float[Tensor, "prompt completion"]) -> Float[Tensor, ""]:
    """MetaRM's J = 2/k^2 sum_{i<j} s(|r_i - r_j|), averaged over prompts: how well unranked samples are told apart."""
    count = scores.shape[1]
    upper = torch.ones(count, count, dtype=torch.bool, device=scores.device).triu(1)
    gaps = (scores[:, :, None] - scores[:, None, :]).abs()[:, upper]
    return 2 / count**2 * gaps.sigmoid().sum(1).mean()
