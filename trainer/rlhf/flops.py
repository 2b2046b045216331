"""How much of the processor a PPO update uses: FLOPs counted from shapes, over what a large matrix product reaches.

A product of (m, k) by (k, n) is 2 m k n FLOPs. So a token costs 2 for each weight it meets, and its attention
4 x layers x query heads x head size for each token it sees. A backward through frozen weights costs another forward
(the gradient of the input), through trained ones two.

Counted is what the algorithm asks for: no padding, no pair of tokens that is masked, nothing that is computed again and
nothing element by element. Left out: ptx, a reward model with a tokenizer of its own or that is a function, folding the
adapter in for sampling, and mixtures of experts, of which each token meets a part alone.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from trainer.rlhf.experience import Actor, Rollout
from trainer.rlhf.packing import Group
from trainer.rlhf.ppo_job import Job
from trainer.rlhf.reward_model import ADAPTER
from trainer.rlhf.trunk import depth, trunk_of

CPU = torch.device("cpu")
LONG_ENOUGH = 0.01  # seconds of a product beside which what surrounds it is nothing
SMALLEST, LARGEST = 512, 8192  # sides of the matrices


class Work(NamedTuple):
    """What a forward has to do."""

    tokens: int  # that pass through the trunk
    pairs: int  # of a token and one that it sees, itself included
    predicted: int  # states whose logits are wanted


class Size(NamedTuple):
    """What of a model multiplies a token's state."""

    trunk: int  # weights of its linear layers
    adapter: int  # weights of the active adapter
    head: int  # weights of the output layer
    attention: int  # FLOPs of a pair of tokens in all layers

    def forward(self, work: Work, *, share: float = 1.0) -> float:
        """FLOPs; `share` is that of the trunk's layers which are computed."""
        trunk = 2 * (self.trunk + self.adapter) * work.tokens + self.attention * work.pairs
        return share * trunk + 2 * self.head * work.predicted

    def training(self, work: Work, *, is_full: bool) -> float:
        """FLOPs of a forward and its backward; without `is_full` the adapter alone is trained."""
        times = 3 if is_full else 2
        products = times * (self.trunk * work.tokens + self.head * work.predicted) + 3 * self.adapter * work.tokens
        return 2 * products + 3 * self.attention * work.pairs


@functools.lru_cache(maxsize=4)  # a walk through all modules takes milliseconds, of every update of a run
def size_of(actor: Actor) -> Size:
    """Counts the weights of an actor's model; embeddings are looked up and multiply nothing."""
    model = actor.policy.model
    config = model.config.get_text_config()
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    adapter = {} if actor.adapter is None else actor.policy.adapter_parameters(actor.adapter)
    return Size(
        linear_weights(model),
        sum(value.numel() for value in adapter.values()),
        actor.policy.head.weight.numel(),
        4 * config.num_hidden_layers * config.num_attention_heads * head_size,
    )


def linear_weights(model: PreTrainedModel) -> int:
    """Weights of the trunk's linear layers, adapters' not among them."""
    return sum(
        module.weight.numel()
        for name, module in trunk_of(model).named_modules()
        if isinstance(module, nn.Linear | Conv1D) and ".lora_" not in name
    )


def packed_work(groups: Sequence[Group]) -> Work:
    """A forward over groups whose prompts are computed once, with the logits of every completion token."""
    prompts = [len(group.prompt_ids) for group in groups]
    lengths = [[len(completion) for completion in group.completions] for group in groups]
    own = sum(map(_triangle, prompts)) + sum(_triangle(length) for row in lengths for length in row)
    across = sum(prompt * sum(row) for prompt, row in zip(prompts, lengths, strict=True))
    completed = sum(map(sum, lengths))
    return Work(sum(prompts) + completed, own + across, completed)


def sampling_work(groups: Sequence[Group]) -> Work:
    """Writing the same completions: a last token is never read, and all first ones come from one row of logits."""
    read = [Group(group.prompt_ids, [completion[:-1] for completion in group.completions]) for group in groups]
    work = packed_work(read)
    return work._replace(predicted=work.predicted + len(groups))


def _triangle(length: int) -> int:
    return length * (length + 1) // 2


def rollout_flops(job: Job, rollout: Rollout) -> float:
    """Of sampling; the adapter is folded into the weights."""
    return size_of(job.actor)._replace(adapter=0).forward(sampling_work(rollout.groups))


def observe_flops(job: Job, rollout: Rollout) -> float:
    """Of the base's one forward, down to the deepest layer that is read, a reference and a reward model beside it."""
    work, scorer, layers = packed_work(rollout.groups), job.scorer, depth(job.base.model)
    states = work._replace(predicted=0)
    heads = [head for head in (scorer.head, scorer.judge_head, *scorer.voters) if head is not None]
    deepest = max([job.critic.base_layer or 0, *(layer for head in heads for layer in head.layers)])
    flops = size_of(job.reference).forward(work)
    is_shared = job.reference.policy is job.base and job.reference.adapter is None
    if deepest and not is_shared:
        flops += size_of(Actor(job.base, None)).forward(states, share=deepest / layers)
    if scorer.model is not None and scorer.model.kind in ("lora", "full"):
        trunk = Actor(scorer.model.trunk, ADAPTER if scorer.model.kind == "lora" else None)
        flops += size_of(trunk).forward(states, share=max(scorer.model.head.layers) / layers)
    return flops


def policy_flops(job: Job, rollout: Rollout) -> float:
    """Of the policy's steps, and of its old log-probs where they are computed again."""
    size, work, config = size_of(job.actor), packed_work(rollout.groups), job.config.ppo
    again = size.forward(work) if config.old_logprobs == "recompute" else 0.0
    return config.epochs * size.training(work, is_full=job.actor.adapter is None) + again


def critic_flops(job: Job, rollout: Rollout) -> float:
    """Of the values and of the critic's steps, its pre-training not among them."""
    work, epochs, trunk = packed_work(rollout.groups)._replace(predicted=0), job.config.ppo.epochs, job.critic.trunk
    if trunk is None:
        states = rollout.mask.sum().item() + len(rollout.samples)
        return (2 + 4 * epochs) * job.critic.head.weight.numel() * states
    size, share = size_of(trunk), job.critic.layer / depth(trunk.policy.model)
    return size.forward(work, share=share) + epochs * share * size.training(work, is_full=trunk.adapter is None)


@functools.cache
def matmul_peak(dtype: torch.dtype = torch.bfloat16, device: torch.device = CPU) -> float:
    """FLOP/s of a large matrix product of `dtype`, the best of five; measured once a process, in some 0.3 s.

    Sides double until a product takes 10 ms: a small one is mostly the call, a large one takes seconds where the dtype
    is emulated. The matrices have a generator of their own, so that no draw of a run changes.
    """
    generator = torch.Generator(device).manual_seed(1)
    best, side = 0.0, SMALLEST
    while True:
        left = torch.randn(side, side, dtype=dtype, device=device, generator=generator)
        seconds = min(_seconds_of_product(left) for _ in range(5))
        best = max(best, 2 * side**3 / seconds)
        if seconds > LONG_ENOUGH or side == LARGEST:
            return best
        side *= 2


def _seconds_of_product(matrix: torch.Tensor) -> float:
    _wait_for(matrix.device)
    started = time.perf_counter()
    matrix @ matrix
    _wait_for(matrix.device)
    return time.perf_counter() - started


def _wait_for(device: torch.device) -> None:
    """Until all that the device was told to do is done; a CPU is never behind."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
