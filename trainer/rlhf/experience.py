"""What one PPO update learns from: completions sampled from the policy, and what frozen models say about them.

The K samples of a prompt lie in one packed row (`packing.py`), so every forward computes the prompt once. Where the
reward model, its judge and the critic are heads on the frozen base and the base is the reference, `observe` gets
reference log-probs, scores and critic features out of one forward.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trainer.rlhf.data import Prompt
from trainer.rlhf.logprobs import TokenLogProbs, token_logprobs
from trainer.rlhf.packing import Group, PackedBatch, batches, pack
from trainer.rlhf.policy import Policy
from trainer.rlhf.reward_head import RewardHead, read, row_owner, score_pooled, token_scores
from trainer.rlhf.rollout import Sample, SamplingSettings, sample_ids
from trainer.rlhf.trunk import depth, hidden_states, packed_inputs


class Actor(NamedTuple):
    """A policy and which of its adapters acts; None is the base, or the model itself where weights are full."""

    policy: Policy
    adapter: str | None

    def activate(self) -> Policy:
        self.policy.use_adapter(self.adapter)
        return self.policy


class Rollout(NamedTuple):
    """Completions of one update, rows in the order of their prompts; padded on the right."""

    prompts: list[Prompt]
    groups: list[Group]  # one a prompt, its samples together
    samples: list[Sample]
    tokens: Int[Tensor, "batch time"]
    mask: Bool[Tensor, "batch time"]
    logprobs: Float[Tensor, "batch time"]  # of the sampler, at the sampling temperature
    is_stopped: Bool[Tensor, " batch"]  # ended by itself; else it was cut

    @property
    def samples_per_prompt(self) -> int:
        return len(self.samples) // len(self.groups)


class Layout(NamedTuple):
    """A packed batch of some of a rollout's prompts, and where its completions' states stand in it."""

    batch: PackedBatch
    rows: Int[Tensor, " row"]  # rows of the rollout
    state_index: Int[Tensor, "row time+1"]  # flat place of the state before token t; at `length`, after the last


class Observation(NamedTuple):
    """What the frozen models say; a field is None where no such model reads the base."""

    ref_logprobs: Float[Tensor, "batch time"]
    scores: Float[Tensor, " batch"] | None
    judge: Float[Tensor, " batch"] | None
    token_scores: Float[Tensor, "batch time"] | None  # terms whose mean is the score, where the first head pools so
    features: Float[Tensor, "batch time+1 hidden"] | None
    voters: Float[Tensor, "voter batch"] | None = None  # scores of the heads after the second


def roll_out(
    actor: Actor,
    prompts: Sequence[Prompt],
    prompt_ids: Sequence[list[int]],
    *,
    samples: int,
    seeds: Sequence[int],
    settings: SamplingSettings,
) -> Rollout:
    """`samples` completions of each prompt; `seeds` has one for each row."""
    policy = actor.activate()
    rows = [ids for ids in prompt_ids for _ in range(samples)]
    drawn = sample_ids(policy, rows, settings=settings, seeds=seeds)
    groups = [
        Group(list(ids), [sample.token_ids for sample in drawn[place * samples : (place + 1) * samples]])
        for place, ids in enumerate(prompt_ids)
    ]
    lengths = torch.tensor([len(sample.token_ids) for sample in drawn])
    time = int(lengths.max())
    tokens = torch.zeros(len(drawn), time, dtype=torch.long)
    logprobs = torch.zeros(len(drawn), time)
    for row, sample in enumerate(drawn):
        tokens[row, : len(sample.token_ids)] = torch.tensor(sample.token_ids)
        logprobs[row, : len(sample.token_ids)] = torch.tensor(sample.logprobs)
    mask = torch.arange(time) < lengths[:, None]
    is_stopped = torch.tensor([sample.finish_reason == "stop" for sample in drawn])
    device = policy.device
    return Rollout(
        list(prompts), groups, drawn, tokens.to(device), mask.to(device), logprobs.to(device), is_stopped.to(device)
    )


def layouts(rollout: Rollout, places: Sequence[int], *, pad_id: int, max_tokens: int) -> Iterator[Layout]:
    """Packed batches of the prompts at `places`, of like length, each at most `max_tokens` with padding."""
    per_prompt, time = rollout.samples_per_prompt, rollout.tokens.shape[1]
    device = rollout.tokens.device
    chosen = [rollout.groups[place] for place in places]
    for indices in batches(chosen, max_tokens=max_tokens):
        groups = [chosen[index] for index in indices]
        batch = pack(groups, pad_id=pad_id)
        rows = [places[index] * per_prompt + sample for index in indices for sample in range(per_prompt)]
        state_index = torch.zeros(len(rows), time + 1, dtype=torch.long)
        row, width = 0, batch.input_ids.shape[1]
        for line, group in enumerate(groups):
            start = line * width + len(group.prompt_ids)
            before = start - 1  # the prompt's last token predicts the first of each completion
            for completion in group.completions:
                state_index[row, 0] = before
                state_index[row, 1 : len(completion) + 1] = torch.arange(start, start + len(completion))
                start, row = start + len(completion), row + 1
        yield Layout(batch, torch.tensor(rows, device=device), state_index.to(device))


def completion_logprobs(
    actor: Actor, rollout: Rollout, layout: Layout, *, temperature: float, has_entropy_gradient: bool = False
) -> tuple[TokenLogProbs, Bool[Tensor, "row time"]]:
    """Log-probs of the layout's completion tokens, flat in the order of the returned mask's True places."""
    policy = actor.activate()
    last = depth(policy.model)
    hidden = hidden_states(policy.model, (last,), **packed_inputs(layout.batch, policy.model))[last]
    return logprobs_of_states(
        policy, hidden, rollout, layout, temperature=temperature, has_entropy_gradient=has_entropy_gradient
    )


def logprobs_of_states(
    policy: Policy,
    hidden: Float[Tensor, "line width hidden"],
    rollout: Rollout,
    layout: Layout,
    *,
    temperature: float,
    has_entropy_gradient: bool = False,
) -> tuple[TokenLogProbs, Bool[Tensor, "row time"]]:
    """As `completion_logprobs`, where the trunk's output is there already."""
    mask = rollout.mask[layout.rows]
    states = hidden.flatten(0, 1)[layout.state_index[:, :-1][mask]]
    found = token_logprobs(
        states,
        policy.head,
        rollout.tokens[layout.rows][mask],
        temperature=temperature,
        has_entropy_gradient=has_entropy_gradient,
    )
    return found, mask


@torch.no_grad()
def rollout_logprobs(
    actor: Actor, rollout: Rollout, *, temperature: float, max_tokens: int
) -> Float[Tensor, "batch time"]:
    """Log-probs of every completion token of a rollout under some policy, without gradient."""
    logprobs = torch.zeros_like(rollout.logprobs)
    everything = range(len(rollout.groups))
    for layout in layouts(rollout, everything, pad_id=actor.policy.pad_id, max_tokens=max_tokens):
        found, mask = completion_logprobs(actor, rollout, layout, temperature=temperature)
        logprobs[layout.rows] = logprobs.new_zeros(mask.shape).masked_scatter(mask, found.logprobs)
    return logprobs


@torch.no_grad()
def observe(
    rollout: Rollout,
    *,
    base: Policy,
    reference: Actor,
    heads: Sequence[RewardHead | None],
    critic_layer: int | None,
    temperature: float,
    max_tokens: int,
) -> Observation:
    """Reference log-probs, the scores of the heads (reward model, judge, voters) and the critic's features.

    One forward of the base serves all of it; a reference that is not the base costs a second.
    """
    is_shared = reference.policy is base and reference.adapter is None
    last = depth(base.model)
    layers = {layer for head in heads if head is not None for layer in head.layers}
    layers |= {layer for layer in (critic_layer, last if is_shared else None) if layer is not None}
    ref_logprobs = torch.zeros_like(rollout.logprobs)
    scores = [None if head is None else rollout.logprobs.new_zeros(len(rollout.samples)) for head in heads]
    has_terms = heads[0] is not None and heads[0].has_terms
    terms = torch.zeros_like(rollout.logprobs) if has_terms else None
    features = None
    everything = range(len(rollout.groups))
    for layout in layouts(rollout, everything, pad_id=base.pad_id, max_tokens=max_tokens):
        hidden: dict[int, Tensor] = {}
        if layers:
            base.use_adapter(None)
            hidden = hidden_states(base.model, sorted(layers), **packed_inputs(layout.batch, base.model))
        if is_shared:
            found, mask = logprobs_of_states(base, hidden[last], rollout, layout, temperature=temperature)
        else:
            found, mask = completion_logprobs(reference, rollout, layout, temperature=temperature)
        ref_logprobs[layout.rows] = ref_logprobs.new_zeros(mask.shape).masked_scatter(mask, found.logprobs)
        for head, score in zip(heads, scores, strict=True):
            if head is not None:
                owner = layout.batch.owner.to(base.device)
                score[layout.rows] = score_pooled(head, read(head, hidden, owner, layout.batch.count))
        if terms is not None:
            own = {layer: hidden[layer].flatten(0, 1)[layout.state_index[:, 1:]] for layer in heads[0].layers}
            terms[layout.rows] = token_scores(heads[0], own, row_owner(rollout.mask[layout.rows]))
        if critic_layer is not None:
            states = hidden[critic_layer].flatten(0, 1)[layout.state_index].float()
            if features is None:
                features = states.new_zeros(len(rollout.samples), *states.shape[1:])
            features[layout.rows] = states
    voters = torch.stack(scores[2:]) if len(scores) > 2 else None
    return Observation(ref_logprobs, scores[0], scores[1], terms, features, voters)
