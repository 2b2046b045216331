"""From scores to advantages: running moments, whitening, generalised advantage estimation.

Free functions of tensors. Masks are bool, True is a real completion token; completions are padded on the right. What
is under the mask never counts, whatever it holds.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from trainer.rlhf.exact import exact
from trainer.rlhf.processes import ALONE, Processes


class Moments(NamedTuple):
    """Count, mean and sum of squared deviations of every score so far (Chan et al. 1979)."""

    count: float = 0.0
    mean: float = 0.0
    squares: float = 0.0

    @property
    def std(self) -> float:
        """Population standard deviation; 1 while there is nothing to tell it from."""
        return (self.squares / self.count) ** 0.5 if self.count > 1 and self.squares > 0 else 1.0

    def updated(self, scores: Float[Tensor, " batch"]) -> Moments:
        """The moments with one more batch."""
        batch = exact(scores)
        count, mean = len(batch), float(batch.mean())
        squares = float((batch - mean).square().sum())
        total = self.count + count
        gap = mean - self.mean
        return Moments(
            total, self.mean + gap * count / total, self.squares + squares + gap * gap * self.count * count / total
        )


def normalised(scores: Float[Tensor, " batch"], moments: Moments, clip: float | None) -> Float[Tensor, " batch"]:
    """clip((r - mu) / sigma, -clip, clip)  (Part I, eq. 18)."""
    scores = (scores - moments.mean) / moments.std
    return scores if clip is None else scores.clamp(-clip, clip)


def token_rewards(
    kl: Float[Tensor, "batch time"],
    score: Float[Tensor, " batch"],
    mask: Bool[Tensor, "batch time"],
    kl_coef: float,
    *,
    terms: Float[Tensor, "batch time"] | None = None,
) -> Float[Tensor, "batch time"]:
    """r_t = -eta (log pi - log pi_ref)_t, and the score on the last real token  (Part I, eq. 19).

    With `terms` (`centred_terms` of a mean-pooled score) each token is paid (score + its term) / length instead: a
    row's payments still sum to its score, and come when they are earned.
    """
    rewards = torch.where(mask, -kl_coef * kl, 0.0)
    if terms is not None:
        return rewards + torch.where(mask, (score[:, None] + terms) / mask.sum(1, keepdim=True), 0.0)
    last = mask.sum(1).long() - 1
    has_tokens = last >= 0
    rewards[has_tokens, last[has_tokens]] += score[has_tokens]
    return rewards


def centred_terms(
    terms: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"], std: float
) -> Float[Tensor, "batch time"]:
    """Each term's deviation from its row's mean in units of `std`; a row sums to 0."""
    mean = torch.where(mask, terms, 0.0).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
    return torch.where(mask, (terms - mean) / std, 0.0)


class Advantages(NamedTuple):
    """A_t, and the returns A_t + V_t that the critic learns; 0 outside the mask."""

    advantages: Float[Tensor, "batch time"]
    returns: Float[Tensor, "batch time"]


def gae(
    rewards: Float[Tensor, "batch time"],
    values: Float[Tensor, "batch time+1"],
    mask: Bool[Tensor, "batch time"],
    *,
    gamma: float,
    lam: float,
    is_bootstrapped: Bool[Tensor, " batch"] | None = None,
) -> Advantages:
    """A_t = sum_l (gamma lambda)^l delta_{t+l},  delta_t = r_t + gamma V(s_{t+1}) - V(s_t)  (1506.02438, eq. 16).

    `values[:, t]` is the value of the state before token t, so `values[:, length]` that after the last token. It
    counts only for rows in `is_bootstrapped` (cut before their end); after an end of its own the value is 0.
    """
    follows = torch.zeros_like(mask)
    follows[:, :-1] = mask[:, 1:]
    if is_bootstrapped is not None:
        follows |= is_bootstrapped[:, None] & mask & ~follows
    values = torch.where(torch.nn.functional.pad(mask, (1, 0), value=True), values, 0.0)
    advantages = torch.zeros_like(rewards)
    running = rewards.new_zeros(len(rewards))
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * torch.where(follows[:, t], values[:, t + 1], 0.0) - values[:, t]
        running = torch.where(mask[:, t], delta + gamma * lam * running, 0.0)
        advantages[:, t] = running
    return Advantages(advantages, torch.where(mask, advantages + values[:, :-1], 0.0))


def whitened(
    values: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"], processes: Processes = ALONE
) -> Float[Tensor, "batch time"]:
    """Mean 0 and (population) variance 1 over the real tokens of all processes; 0 outside the mask."""
    chosen = exact(torch.where(mask, values, 0.0))
    count, total = processes.sum(torch.stack([exact(mask.sum()), chosen.sum()]))
    deviation = torch.where(mask, values - float(total / count), 0.0)
    variance = processes.sum(exact(deviation.square().sum())) / count
    return deviation * float(torch.rsqrt(variance + 1e-8))


def explained_variance(
    predicted: Float[Tensor, "batch time"],
    target: Float[Tensor, "batch time"],
    mask: Bool[Tensor, "batch time"],
    processes: Processes = ALONE,
) -> float:
    """1 - Var(target - predicted) / Var(target) over the real tokens of all processes; 0 if the target is constant."""
    pair = exact(torch.stack([target[mask], (target - predicted)[mask]]))
    count = processes.sum(torch.tensor(float(pair.shape[1]), dtype=torch.float64, device=pair.device))
    mean = processes.sum(pair.sum(1)) / count
    target_squares, residual_squares = processes.sum((pair - mean[:, None]).square().sum(1))
    return float(1 - residual_squares / target_squares) if target_squares > 0 else 0.0
