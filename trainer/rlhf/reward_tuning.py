"""Fine-tuning the trunk on rankings, from a fitted probe on: an adapter (lora) or every weight (full).

A step takes `rankings_per_step` rankings, packed so that each prompt is computed once, in micro-batches that change
memory and not the gradient. One epoch by default: more inflates scores without telling more completions apart
(2307.04964, 2.2).

Left out: dropout, unless SimCSE asks for its two views. Weight decay is 0: the probe's ridge has chosen the start.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from trainer.rlhf.checkpoint import (
    SavingTime,
    copy_parameters,
    load_state,
    optimiser_tensors,
    restore_optimiser,
    save_state,
)
from trainer.rlhf.config import LoraConfig, RewardConfig
from trainer.rlhf.data import Ranking
from trainer.rlhf.folder import StageError, Stopped
from trainer.rlhf.gradients import clip_gradients
from trainer.rlhf.journal import Journal
from trainer.rlhf.optimiser import MasterAdamW
from trainer.rlhf.packing import Group, batches, pack, unpacked
from trainer.rlhf.pairs import Pairs
from trainer.rlhf.policy import Policy
from trainer.rlhf.processes import Processes
from trainer.rlhf.ranking_file import sizes_of
from trainer.rlhf.reward_head import RewardHead, read
from trainer.rlhf.reward_loss import info_nce, pairwise_loss, plackett_luce_loss, spread
from trainer.rlhf.reward_model import ADAPTER
from trainer.rlhf.rollout import derived_seed
from trainer.rlhf.trunk import hidden_states, packed_inputs

MICRO_TOKENS = 2048  # tokens of one forward and backward: bounds the memory, changes no result
MAX_GRAD_NORM = 1.0
WARMUP_SHARE = 0.05


class Trainee(NamedTuple):
    """A trunk with a head whose weights see features divided by `scale`, so that one learning rate suits all."""

    policy: Policy
    adapter: str | None
    head: RewardHead
    scale: Float[Tensor, "reading hidden"]
    weight: nn.Parameter
    parameters: dict[str, nn.Parameter]  # of trunk and head

    def pooled(self, groups: Sequence[Group], *, is_packed: bool) -> Float[Tensor, "completion readings_hidden"]:
        """Scaled pooled features of all readings side by side, with their gradient."""
        rows = groups if is_packed else [row for group in groups for row in unpacked(group)]
        batch = pack(rows, pad_id=self.policy.pad_id)
        hidden = hidden_states(self.policy.model, self.head.layers, **packed_inputs(batch, self.policy.model))
        found = read(self.head, hidden, batch.owner.to(self.scale.device), batch.count)
        return torch.cat([found[own] / scale for own, scale in zip(self.head.readings, self.scale, strict=True)], dim=1)

    def fitted_head(self) -> RewardHead:
        return self.head._replace(weight=(self.weight.detach().view_as(self.scale) / self.scale).cpu())


class Lesson(NamedTuple):
    """What is learned from: rankings with their token ids, all their pairs, a margin for each pair."""

    rankings: Sequence[Ranking]
    groups: Sequence[Group]
    pairs: Pairs
    margin: Float[Tensor, " pair"] | None = None
    unranked: Sequence[Group] = ()  # fresh samples of the policy, for MetaRM


class Register(NamedTuple):
    """What is asked of a lesson at every step, counted once."""

    weight: Float[Tensor, " ranking"]  # 0 where all of a ranking's pairs were dropped or kept from this lesson
    starts: Int[Tensor, " ranking_and_end"]  # number of each ranking's first completion


def register_of(lesson: Lesson) -> Register:
    weight = torch.bincount(lesson.pairs.ranking, lesson.pairs.weight, minlength=len(lesson.rankings))
    return Register(weight, torch.from_numpy(np.append(0, sizes_of(lesson.rankings)).cumsum()))


def make_trainee(policy: Policy, head: RewardHead, lora: LoraConfig | None, scale: Tensor, *, seed: int) -> Trainee:
    """Prepares a policy's model for training: with a new adapter beside those it has, or with all its weights."""
    head, scale = head.to(policy.device), scale.to(policy.device)
    if lora is None:
        policy.model.requires_grad_(True)
        trunk = {
            name: p for name, p in policy.model.named_parameters() if p is not policy.head.weight or policy.is_tied
        }
    else:
        policy.new_adapter(ADAPTER, lora, seed=seed)
        policy.use_adapter(ADAPTER)
        trunk = policy.adapter_parameters(ADAPTER)
    weight = nn.Parameter((head.weight * scale).flatten())
    return Trainee(policy, lora and ADAPTER, head, scale, weight, {**trunk, "score.weight": weight})


def tune(
    trainee: Trainee,
    lesson: Lesson,
    config: RewardConfig,
    *,
    seed: int,
    state: Path | None,
    journal: Journal,
    processes: Processes,
) -> RewardHead:
    """Trains in place and returns the head; goes on from the newest state under `state` (None: keeps none).

    Raises `Stopped` after SIGTERM or Ctrl-C, with the last whole step saved.
    """
    if config.simcse and not _has_dropout(trainee.policy.model):
        if trainee.adapter is None:
            raise StageError("reward.simcse needs dropout for its two views, and this base has none: train with lora")
        raise StageError("reward.simcse needs dropout for its two views: set lora.dropout above 0")
    highest_rate = config.rate(has_adapter=trainee.adapter is not None)
    optimiser = MasterAdamW(trainee.parameters.values(), lr=highest_rate, weight_decay=0.0)
    saved = load_state(state) if state else None
    done = 0
    if saved is not None:
        tensors, record = saved
        copy_parameters(trainee.parameters, tensors["weights"])
        restore_optimiser(optimiser, tensors["optimiser"])
        done = record["step"]
        journal.skip(done)
    plan = list(lesson_plan(len(lesson.rankings), config, seed))
    register = register_of(lesson)
    saving = SavingTime()
    for step, chosen in enumerate(plan[done:], start=done + 1):
        rate = highest_rate * _schedule(step, len(plan))
        metrics = _step(trainee, optimiser, lesson, register, chosen, config, rate, (seed, step), processes)
        journal.note(metrics)  # before the state: a resumed run cuts lines, it does not make up for them
        is_stopping = journal.stop.is_agreed(processes)
        if state and processes.is_first and (saving.is_due or is_stopping or step == len(plan)):
            with saving.spent():
                # Laid out otherwise, it is to have another STATE_FORMAT (`reward_training.py`).
                tensors = {"weights": trainee.parameters, "optimiser": optimiser_tensors(optimiser)}
                save_state(state, step, tensors, {})
        if is_stopping:
            raise Stopped
    return trainee.fitted_head()


def steps_done(state: Path) -> int:
    """Optimiser steps that the newest state under `state` holds."""
    return max((int(path.name.removeprefix("step-")) for path in state.glob("step-*")), default=0)


def steps_of(rankings: int, config: RewardConfig) -> int:
    """Optimiser steps of a whole training."""
    return config.epochs * -(-rankings // config.rankings_per_step)


def lesson_plan(rankings: int, config: RewardConfig, seed: int) -> Iterator[list[int]]:
    """Numbers of the rankings of each step: each epoch is a fresh shuffle, the same in a resumed run."""
    for epoch in range(config.epochs):
        order = list(range(rankings))
        random.Random(derived_seed(seed, epoch)).shuffle(order)
        for start in range(0, rankings, config.rankings_per_step):
            yield order[start : start + config.rankings_per_step]


def _schedule(step: int, steps: int) -> float:
    """Linear warm-up, then linear decay to a tenth."""
    warmup = max(1, round(WARMUP_SHARE * steps))
    if step <= warmup:
        return step / warmup
    return 1 - 0.9 * (step - warmup) / max(1, steps - warmup)


def _step(
    trainee: Trainee,
    optimiser: MasterAdamW,
    lesson: Lesson,
    register: Register,
    chosen: Sequence[int],
    config: RewardConfig,
    rate: float,
    key: tuple[int, int],
    processes: Processes,
) -> dict[str, float]:
    started = time.monotonic()
    chosen = [number for number in chosen if register.weight[number] > 0]
    has_ascent = config.metarm > 0 and len(lesson.unranked) > 0
    with risen(trainee, optimiser, lesson.unranked, config, key) if has_ascent else nullcontext():
        sums = _backward(trainee, lesson, register, chosen, config, key, processes)
    if chosen:  # else all gradients stay None: zeros would let AdamW go on by momentum, which one process does not
        processes.sum_gradients(trainee.parameters.values())
    norm = clip_gradients(trainee.parameters.values(), MAX_GRAD_NORM)
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    loss, right, count = processes.sum(sums).tolist()
    tokens = sum(lesson.groups[number].tokens for number in chosen)
    return {
        "reward/loss": loss,
        "reward/accuracy": right / max(count, 1),
        "reward/grad_norm": norm,
        "reward/tokens_per_second": tokens / (time.monotonic() - started),
        "reward/learning_rate": rate,
    }


def _backward(
    trainee: Trainee,
    lesson: Lesson,
    register: Register,
    chosen: Sequence[int],
    config: RewardConfig,
    key: tuple[int, int],
    processes: Processes,
) -> Float[Tensor, " 3"]:
    """Adds this process's share of the step's gradients; returns its share of the loss, of right and decided pairs."""
    sums = torch.zeros(3)
    weight = float(register.weight[chosen].sum())
    mine = chosen[processes.rank :: processes.world]
    groups = [lesson.groups[number] for number in mine]
    contrast = None
    if config.simcse and chosen:
        contrast = contrast_of(trainee, dict(zip(mine, groups, strict=True)), config, key, processes)
        sums[0] = contrast.loss if processes.is_first else 0.0
    for places in batches(groups, max_tokens=0 if contrast else MICRO_TOKENS):
        numbers, part = [mine[place] for place in places], [groups[place] for place in places]
        share = float(register.weight[numbers].sum()) / weight
        if contrast is None:
            pooled, pull = trainee.pooled(part, is_packed=config.is_packed), 0.0
        else:
            pooled, other = two_views(trainee, part[0], config, (*key, numbers[0]))
            pull = contrast.pull(numbers[0], pooled, other)
        loss, right, count = _loss(pooled @ trainee.weight, numbers, lesson, register, config)
        (share * loss + pull).backward()
        sums += torch.tensor([share * float(loss.detach()), right, count])
    return sums


def _loss(
    scores: Float[Tensor, " completion"],
    numbers: Sequence[int],
    lesson: Lesson,
    register: Register,
    config: RewardConfig,
) -> tuple[Float[Tensor, ""], float, float]:
    """The loss of some rankings whose completions follow one another in `scores`; right and decided pairs."""
    pairs, places = lesson.pairs.of_rankings(numbers, register.starts)
    pairs = Pairs(*(column.to(scores if column.is_floating_point() else scores.device) for column in pairs))
    delta = (scores[pairs.winner] - scores[pairs.loser]).detach()
    is_decided = pairs.target != 0.5
    right = float(((delta > 0) & is_decided).sum())
    if config.loss == "plackett_luce":
        ranks = [lesson.rankings[number].ranks for number in numbers]
        loss = plackett_luce_loss(scores, ranks, register.weight[numbers].tolist())
    else:
        margin = None if lesson.margin is None else lesson.margin[places].to(scores)
        loss = pairwise_loss(
            scores,
            pairs,
            ties=config.ties,
            tie_parameter=config.tie_parameter,
            margin=margin,
            centring=config.centring,
        )
    return loss, right, float(is_decided.sum())


@contextmanager
def risen(
    trainee: Trainee,
    optimiser: MasterAdamW,
    unranked: Sequence[Group],
    config: RewardConfig,
    key: tuple[int, int],
) -> Iterator[None]:
    """MetaRM (2405.00438): inside, the weights are theta + eta grad J on fresh samples; afterwards theta again.

    The loss's gradient is taken inside and applied to theta. The ascent starts from what the optimiser sums: bf16
    weights would round a small one away, each of them to where it was.
    """
    draw = random.Random(derived_seed(*key, 1))
    groups = draw.sample(list(unranked), min(config.rankings_per_step, len(unranked)))
    for places in batches(groups, max_tokens=MICRO_TOKENS):
        part = [groups[place] for place in places]
        scores = trainee.pooled(part, is_packed=config.is_packed) @ trainee.weight
        each = scores.split([len(group.completions) for group in part])
        (sum(spread(own[None]) for own in each) / len(groups)).backward()
    before = {name: weight.detach().clone() for name, weight in trainee.parameters.items()}
    with torch.no_grad():
        for master, weight in zip(optimiser.masters, trainee.parameters.values(), strict=True):
            if weight.grad is not None:
                weight.copy_(torch.add(master, weight.grad.float(), alpha=config.metarm))
                weight.grad = None
    yield
    copy_parameters(trainee.parameters, before)


class Contrast(NamedTuple):
    """SimCSE over all completions of a step, weighted, and its slope at both views of each ranking, by number."""

    loss: float
    slopes: dict[int, tuple[Tensor, Tensor]]

    def pull(self, number: int, *views: Tensor) -> Float[Tensor, ""]:
        """What has the gradient of the whole at a ranking's two views."""
        return sum((view * slope).sum() for view, slope in zip(views, self.slopes[number], strict=True))


def contrast_of(
    trainee: Trainee, mine: Mapping[int, Group], config: RewardConfig, key: tuple[int, int], processes: Processes
) -> Contrast:
    """The first of two passes (GradCache, 2101.06983): the views without their graphs, and where they are to move.

    A second forward that draws the same dropout carries the slopes on to the weights, a ranking at a time. So a
    completion is told from all others of its step, and only the views themselves are in memory together.
    """
    with torch.no_grad():
        own = {number: two_views(trainee, group, config, (*key, number)) for number, group in mine.items()}
    gathered = processes.gather({number: (number, *(view.cpu() for view in pair)) for number, pair in own.items()})
    numbers, *sides = zip(*gathered, strict=True)
    first, second = (torch.cat(side).requires_grad_() for side in sides)
    loss = config.simcse * info_nce(first, second)
    loss.backward()
    sizes = [len(side) for side in sides[0]]
    slopes = zip(*(side.grad.to(trainee.weight.device).split(sizes) for side in (first, second)), strict=True)
    return Contrast(float(loss.detach()), dict(zip(numbers, slopes, strict=True)))


def two_views(trainee: Trainee, group: Group, config: RewardConfig, key: tuple[int, ...]) -> list[Tensor]:
    """Pooled features of a ranking under two draws of dropout, which depend on the key alone."""
    model = trainee.policy.model
    with torch.random.fork_rng():
        torch.manual_seed(derived_seed(*key))
        model.train()
        try:
            return [trainee.pooled([group], is_packed=config.is_packed) for _ in range(2)]
        finally:
            model.eval()


def _has_dropout(model: nn.Module) -> bool:
    return any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())
