"""Log-probs of chosen tokens from hidden states, without ever keeping a softmax over the vocabulary.

    log pi(y) = z_y / T - log sum_v exp(z_v / T),   z = W h
    d log pi(y) / d h = (e_y - pi) W / T

The gradient for each token is one vector of the hidden size, known in the forward already: a chunk of logits is made,
read, turned into that vector and dropped. Where the output layer itself is trained (full weights), or the entropy, the
chunk is made again in the backward instead. Only states that predict a completion token come here, never a sequence.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

CHUNK = 512  # states whose logits exist at one time


class TokenLogProbs(NamedTuple):
    """For each token: the log-prob it was given, and the entropy of the distribution it came from."""

    logprobs: Float[Tensor, " token"]
    entropy: Float[Tensor, " token"]


def token_logprobs(
    states: Float[Tensor, "token hidden"],
    head: nn.Linear,
    targets: Int[Tensor, " token"],
    *,
    temperature: float = 1.0,
    has_entropy_gradient: bool = False,
) -> TokenLogProbs:
    """Log-probs in fp32 of `targets` under softmax(head(states) / temperature)."""
    if head.weight.requires_grad or has_entropy_gradient:
        chunks = [
            checkpoint(_chunk, part, head.weight, head.bias, ids, temperature, use_reentrant=False)
            for part, ids in zip(states.split(CHUNK), targets.split(CHUNK), strict=True)
        ]
        return TokenLogProbs(torch.cat([chunk[0] for chunk in chunks]), torch.cat([chunk[1] for chunk in chunks]))
    return TokenLogProbs(*_FrozenHead.apply(states, head.weight, head.bias, targets, temperature))


def _chunk(
    states: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    logits = nn.functional.linear(states, weight, bias).float() / temperature
    logprobs = logits.log_softmax(-1)
    entropy = -(logprobs.exp() * logprobs).sum(-1)
    return logprobs.gather(1, targets[:, None])[:, 0], entropy


class _FrozenHead(torch.autograd.Function):
    """Keeps (e_y - pi) W / T for each token: the backward is one multiplication."""

    @staticmethod
    def forward(ctx, states: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, temperature: float):
        logprobs = torch.empty(len(states), device=states.device)
        entropy = torch.empty_like(logprobs)
        direction = torch.empty_like(states) if states.requires_grad else None
        for start in range(0, len(states), CHUNK):
            here = slice(start, start + CHUNK)
            chosen = targets[here, None]
            logits = nn.functional.linear(states[here], weight, bias).float().div_(temperature)
            top = logits.logsumexp(-1, keepdim=True)
            logprobs[here] = (logits.gather(1, chosen) - top)[:, 0]
            probs = (logits - top).exp_()
            entropy[here] = top[:, 0] - (probs * logits).sum(-1)
            if direction is not None:
                slope = probs.neg_()
                slope.scatter_add_(1, chosen, torch.ones_like(chosen, dtype=slope.dtype))
                direction[here] = (slope.to(weight.dtype) @ weight).div_(temperature)
        ctx.save_for_backward(direction)
        ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx, grad_logprobs: Tensor, _grad_entropy: Tensor):
        (direction,) = ctx.saved_tensors
        return (grad_logprobs[:, None] * direction.float()).to(direction.dtype), None, None, None, None
