"""The critic: V(s_t), what the reward of a completion is expected to be given its tokens before t.

Three kinds, by what is trained: `head`, a linear map on the frozen base's features (costs no forward of its own);
`adapter`, a LoRA adapter of the base with a linear map on it; `full`, a whole model with one. Features are standardised
with the moments of the first rollout, so that one learning rate fits any layer of any model.

It starts as the reward model where it can: on a copy of its trunk, at its layer, V(s_t) is the normalised score of what
was written before t. A score read at the last token of one layer is such a value; a frozen reward model fits every
kind, one tuned as an adapter `adapter`, one tuned whole `full`. All else starts at zero, a `head` on the middle layer
and a trunk on its output: of a mean over tokens the term of one says little about the rest, and a function, another
backbone, or a trunk tuned in another way than the critic's cannot be copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from trainer.rlhf.advantage import explained_variance
from trainer.rlhf.config import CriticConfig
from trainer.rlhf.exact import exact
from trainer.rlhf.experience import Actor, Layout, Rollout, layouts
from trainer.rlhf.gradients import clip_gradients
from trainer.rlhf.optimiser import MasterAdamW
from trainer.rlhf.processes import Processes
from trainer.rlhf.reward_head import RewardHead
from trainer.rlhf.trunk import hidden_states, packed_inputs

LEARNING_RATES = {"head": 3e-3, "adapter": 2e-4, "full": 2e-5}


class ValueHead(nn.Module):
    """V = w . (h - mean) / std + b."""

    def __init__(self, size: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size))
        self.bias = nn.Parameter(torch.zeros(()))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))

    def forward(self, states: Float[Tensor, "batch states hidden"]) -> Float[Tensor, "batch states"]:
        return (states.float() - self.mean) / self.std @ self.weight + self.bias


class Critic(NamedTuple):
    """A value head, and the trunk it trains; `trunk` is None for the kind `head`, which reads the base's features."""

    head: ValueHead
    trunk: Actor | None
    layer: int  # that the head reads, of the trunk or of the base
    start: RewardHead | None  # what V starts as; None: zero
    optimiser: torch.optim.Optimizer
    parameters: dict[str, nn.Parameter]

    @property
    def base_layer(self) -> int | None:
        """The layer of the frozen base that it reads; None where it has a trunk of its own."""
        return self.layer if self.trunk is None else None

    @property
    def is_standardised(self) -> bool:
        """Whether its states are standardised; a trunk's output, which ends in a norm of its own, is read as it is."""
        return self.trunk is None or self.start is not None


class CriticLoss(NamedTuple):
    """Sums over tokens: the loss, and how many tokens the value clip acted on."""

    loss: Float[Tensor, ""]
    clipped: Float[Tensor, ""]


def make_critic(
    config: CriticConfig, head: ValueHead, trunk: Actor | None, *, layer: int, start: RewardHead | None
) -> Critic:
    """A critic over the trainable parameters of its head and trunk, with an optimiser of its own."""
    parameters = {f"head.{name}": parameter for name, parameter in head.named_parameters()}
    if trunk is not None and trunk.adapter is not None:
        parameters |= trunk.activate().adapter_parameters(trunk.adapter)
    elif trunk is not None:
        model = trunk.policy.model.requires_grad_(True)
        output = set() if trunk.policy.is_tied else {id(parameter) for parameter in trunk.policy.head.parameters()}
        parameters |= {name: value for name, value in model.named_parameters() if id(value) not in output}
    rate = LEARNING_RATES[config.kind] if config.learning_rate is None else config.learning_rate
    optimiser = MasterAdamW(parameters.values(), lr=rate, eps=1e-5, weight_decay=0.0)
    return Critic(head, trunk, layer, start, optimiser, parameters)


def standardise(
    head: ValueHead, states: Float[Tensor, "batch time hidden"], mask: Bool[Tensor, "batch time"], processes: Processes
) -> None:
    """Sets the head's moments to those of these states, over all processes."""
    chosen = exact(states[mask])
    count = processes.sum(torch.tensor(float(len(chosen)), dtype=torch.float64, device=chosen.device))
    mean = processes.sum(chosen.sum(0)) / count
    variance = processes.sum((chosen - mean).square().sum(0)) / count
    head.mean.copy_(mean.float())
    head.std.copy_(variance.sqrt().clamp(min=1e-3).float())


@torch.no_grad()
def start_from_reward(head: ValueHead, reward: RewardHead, *, mean: float, std: float) -> None:
    """V starts as the normalised score of the last token alone; call after `standardise`."""
    (weight,) = reward.weight
    head.weight.copy_(weight * head.std / std)
    head.bias.copy_((weight @ head.mean + reward.bias - mean) / std)


def states_of(
    critic: Critic, layout: Layout, features: Float[Tensor, "batch states hidden"] | None
) -> Float[Tensor, "row states hidden"]:
    """The states the value head reads, for one layout's rows."""
    if critic.trunk is None:
        return features[layout.rows]
    policy = critic.trunk.activate()
    inputs = packed_inputs(layout.batch, policy.model)
    hidden = hidden_states(policy.model, (critic.layer,), **inputs)[critic.layer]
    return hidden.flatten(0, 1)[layout.state_index]


@torch.no_grad()
def rollout_states(
    critic: Critic, rollout: Rollout, features: Tensor | None, *, pad_id: int, max_tokens: int
) -> Float[Tensor, "batch states hidden"]:
    """What the value head reads of every state of a rollout, the one after the last token included."""
    if critic.trunk is None:
        return features
    states = critic.head.mean.new_zeros(len(rollout.samples), rollout.tokens.shape[1] + 1, len(critic.head.mean))
    for layout in layouts(rollout, range(len(rollout.groups)), pad_id=pad_id, max_tokens=max_tokens):
        states[layout.rows] = states_of(critic, layout, None).float()
    return states


@torch.no_grad()
def rollout_values(
    critic: Critic, rollout: Rollout, features: Tensor | None, *, pad_id: int, max_tokens: int
) -> Float[Tensor, "batch states"]:
    """V of every state of a rollout, the one after the last token included."""
    return critic.head(rollout_states(critic, rollout, features, pad_id=pad_id, max_tokens=max_tokens))


def value_loss(
    values: Float[Tensor, " token"],
    old_values: Float[Tensor, " token"],
    returns: Float[Tensor, " token"],
    clip: float | None,
) -> CriticLoss:
    """0.5 max((V - R)^2, (clip(V, V_old +- clip) - R)^2), summed  (Part I, section 3.2; 1707.06347)."""
    plain = (values - returns).square()
    if clip is None:
        return CriticLoss(0.5 * plain.sum(), plain.new_zeros(()))
    bounded = (old_values + (values - old_values).clamp(-clip, clip) - returns).square()
    return CriticLoss(0.5 * torch.maximum(plain, bounded).sum(), (bounded > plain).sum().float())


def critic_step(
    critic: Critic,
    rollout: Rollout,
    packed: Iterable[Layout],
    *,
    features: Float[Tensor, "batch states hidden"] | None,
    old_values: Float[Tensor, "batch time"],
    returns: Float[Tensor, "batch time"],
    tokens: float,
    clip: float | None,
    max_grad_norm: float,
    processes: Processes,
) -> CriticLoss:
    """One optimiser step on the layouts' tokens; `tokens` counts those of all processes. Returns global means."""
    critic.optimiser.zero_grad(set_to_none=True)
    total = clipped = torch.zeros((), device=rollout.tokens.device)
    for layout in packed:
        mask = rollout.mask[layout.rows]
        values = critic.head(states_of(critic, layout, features))[:, :-1]
        loss = value_loss(values[mask], old_values[layout.rows][mask], returns[layout.rows][mask], clip)
        (loss.loss / tokens).backward()
        total, clipped = total + loss.loss.detach(), clipped + loss.clipped
    processes.sum_gradients(critic.parameters.values())
    clip_gradients(critic.parameters.values(), max_grad_norm)
    critic.optimiser.step()
    total, clipped = processes.sum(torch.stack([total, clipped])) / tokens
    return CriticLoss(total, clipped)


def pretrain_critic(
    critic: Critic,
    rollout: Rollout,
    packed: Sequence[Layout],
    *,
    features: Tensor | None,
    returns: Float[Tensor, "batch time"],
    config: CriticConfig,
    max_grad_norm: float,
    pad_id: int,
    max_tokens: int,
    processes: Processes,
) -> tuple[int, float]:
    """Fits the critic to the first rollout's returns, policy untouched, until it explains enough; (steps, EV)."""
    tokens = float(processes.sum(exact(rollout.mask.sum())))
    explained = 0.0
    for step in range(config.pretrain_steps + 1):
        values = rollout_values(critic, rollout, features, pad_id=pad_id, max_tokens=max_tokens)[:, :-1]
        explained = explained_variance(values, returns, rollout.mask, processes)
        if explained > config.pretrain_until or step == config.pretrain_steps:
            break
        critic_step(
            critic,
            rollout,
            packed,
            features=features,
            old_values=values,
            returns=returns,
            tokens=tokens,
            clip=None,
            max_grad_norm=max_grad_norm,
            processes=processes,
        )
    return step, explained
