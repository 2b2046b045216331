"""One loop for the two supervised stages: what they train, their optimiser, their state and their product.

A stage gives batches of examples and a function that adds a batch's gradients. The order of the examples is a function
of (seed, epoch), so that a resumed stage sees what it would have seen.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from trainer.rlhf.checkpoint import (
    SavingTime,
    copy_parameters,
    load_state,
    optimiser_tensors,
    restore_optimiser,
    save_state,
)
from trainer.rlhf.config import RunConfig
from trainer.rlhf.folder import Pace, RunFolder, Stopped, StopSignal
from trainer.rlhf.gradients import clip_gradients
from trainer.rlhf.inputs import check_inputs
from trainer.rlhf.optimiser import MasterAdamW
from trainer.rlhf.policy import Policy, check_parent, load_policy
from trainer.rlhf.processes import Processes
from trainer.rlhf.rollout import derived_seed
from trainer.rlhf.versions import versions

MAX_GRAD_NORM = 1.0


class Learner(NamedTuple):
    """A policy under supervised training: the adapter `policy`, or every weight."""

    policy: Policy
    parameters: dict[str, nn.Parameter]
    has_adapter: bool


def load_learner(config: RunConfig, *, can_be_encoder: bool = False) -> Learner:
    """The run's base or parent, ready to be trained."""
    check_parent(config)
    options = {"dtype": config.training_dtype, "trust_remote_code": config.trust_remote_code}
    policy = load_policy(config.base_model, adapter=config.parent, can_be_encoder=can_be_encoder, **options)
    if config.lora is None:
        policy.model.requires_grad_(True)
        return Learner(policy, dict(policy.model.named_parameters()), False)
    if not policy.adapters():
        policy.new_adapter("policy", config.lora, seed=config.seed)
    policy.use_adapter("policy")
    return Learner(policy, policy.adapter_parameters("policy"), True)


def train(
    folder: RunFolder,
    stop: StopSignal,
    *,
    stage: str,
    config: RunConfig,
    learner: Learner,
    examples: Sequence[Any],
    examples_per_step: int,
    epochs: int,
    learning_rate: float,
    backward: Callable[[Sequence[Any], int], dict[str, float]],
    contents: Mapping[str, str | None],
    processes: Processes,
) -> None:
    """AdamW over shuffled batches, learning rate falling linearly to a tenth; publishes `{stage}/policy`.

    `contents` are digests of what all was read from (`inputs.py`): a saved state is gone on from with the same alone.
    """
    check_inputs(folder, stage, contents, processes)
    steps = -(-len(examples) // examples_per_step) * epochs
    optimiser = MasterAdamW(learner.parameters.values(), lr=learning_rate, weight_decay=0.0)
    state, log = folder.stage(stage) / "state", folder.log(stage)
    done = _restore(load_state(state), learner, optimiser)
    if processes.is_first:
        log.cut(done)
    pace, saving = Pace(steps), SavingTime()
    batches = batches_of(len(examples), examples_per_step, epochs=epochs, seed=config.seed, done=done)
    for step, places in enumerate(batches, start=done + 1):
        batch = [examples[place] for place in places]
        optimiser.zero_grad(set_to_none=True)
        metrics = backward(batch, step)
        processes.sum_gradients(learner.parameters.values())
        norm = clip_gradients(learner.parameters.values(), MAX_GRAD_NORM)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * (1 - 0.9 * (step - 1) / steps)
        optimiser.step()
        is_stopping = stop.is_agreed(processes)
        if processes.is_first:
            log.append(step, steps, metrics | {"grad_norm": norm}, seconds_left=pace.left(step))
            if saving.is_due or is_stopping:
                with saving.spent():
                    tensors = {"policy": learner.parameters, "optimiser": optimiser_tensors(optimiser)}
                    save_state(state, step, tensors, {})
        if is_stopping:
            raise Stopped
    if processes.is_first:
        _publish(folder, stage, config, learner, steps)
    processes.barrier()


def batches_of(count: int, size: int, *, epochs: int, seed: int, done: int) -> Iterator[list[int]]:
    """The places of the examples of each step that is left: an epoch is shuffled once."""
    steps = -(-count // size)
    for epoch in range(done // steps, epochs):
        order = list(range(count))
        random.Random(derived_seed(seed, 5, epoch)).shuffle(order)
        first = max(0, done - epoch * steps)
        yield from (order[start : start + size] for start in range(first * size, count, size))


def _restore(saved: tuple[dict, dict] | None, learner: Learner, optimiser: torch.optim.Optimizer) -> int:
    if saved is None:
        return 0
    tensors, record = saved
    copy_parameters(learner.parameters, tensors["policy"])
    restore_optimiser(optimiser, tensors["optimiser"])
    return record["step"]


def _publish(folder: RunFolder, stage: str, config: RunConfig, learner: Learner, steps: int) -> None:
    record = {
        "base": config.base_model,
        "parent": config.parent,
        "seed": config.seed,
        "versions": versions(),
        "steps": steps,
    }
    path = folder.stage(stage) / "policy"
    if learner.has_adapter:
        learner.policy.save_adapter("policy", path, record)
    else:
        learner.policy.save_weights(path, record)
