"""Where scores come from: the run's reward model with its judge, that of another run, or any Python function.

A function is named `module:function`; it takes the prompts' messages and the completions' texts and returns a number
for each completion. It is trusted code of the person who starts the run.
"""

from __future__ import annotations

import importlib
import json
import math
import reprlib
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from trainer.rlhf.config import ConfigError, RunConfig
from trainer.rlhf.data import Messages, Prompt
from trainer.rlhf.encoding import encode_group, encode_prompts
from trainer.rlhf.experience import Observation, Rollout
from trainer.rlhf.folder import RunFolder, StageError
from trainer.rlhf.packing import Group
from trainer.rlhf.policy import Policy, check_base
from trainer.rlhf.reward_head import RewardHead
from trainer.rlhf.reward_model import RewardModel, load_reward_model
from trainer.rlhf.trunk import check_completion

RewardFunction = Callable[[Sequence[Messages], Sequence[str]], Sequence[float]]


class Scorer(NamedTuple):
    """One of a reward model and a function."""

    model: RewardModel | None
    function: RewardFunction | None
    config: RunConfig

    @property
    def head(self) -> RewardHead | None:
        """The head that a forward of the base can feed, if the reward model is one."""
        return self.model.head if self.model is not None and self.model.is_frozen_trunk else None

    @property
    def judge_head(self) -> RewardHead | None:
        return None if self.model is None else self.model.judge_head

    @property
    def voters(self) -> tuple[RewardHead, ...]:
        """Probes on the base, bootstrapped from the reward model's rankings; none where its probe reads a backbone."""
        return () if self.model is None or self.model.kind == "backbone" else self.model.voters

    @property
    def training_range(self) -> tuple[float, float]:
        """The lowest and highest score the reward model gave in its own training."""
        return (-math.inf, math.inf) if self.model is None else (self.model.head.low, self.model.head.high)

    def check_lengths(self, prompts: Sequence[Prompt]) -> None:
        """Raises `StageError` where a prompt and the longest completion are more than a backbone of its own reads."""
        if self.model is not None and self.model.kind == "backbone":
            trunk, config = self.model.trunk, self.config
            ids = encode_prompts(trunk.tokenizer, prompts, max_tokens=config.max_prompt_tokens)
            check_completion(trunk.model, max(map(len, ids)) + config.max_completion_tokens)

    def scores(self, rollout: Rollout, observation: Observation) -> Float[Tensor, " batch"]:
        """One raw score a completion."""
        if observation.scores is not None:
            return observation.scores
        if self.model is not None:
            return self.model.score_groups(self._groups(rollout)).to(rollout.logprobs)
        prompts = [prompt.messages for prompt in rollout.prompts for _ in range(rollout.samples_per_prompt)]
        returned = self.function(prompts, [sample.text for sample in rollout.samples])
        scores = torch.tensor(_numbers(returned)).to(rollout.logprobs)  # where 1e39 is no longer finite
        if len(scores) != len(prompts) or not scores.isfinite().all():
            raise StageError(
                f"the reward function must return {len(prompts)} finite numbers, one a completion, "
                f"not {reprlib.repr(returned)}"
            )
        return scores

    def token_terms(self, rollout: Rollout, observation: Observation) -> list[Float[Tensor, " time"]] | None:
        """What each token of each completion adds, the mean of which is its score.

        None where a score has no terms, or where the reward model's tokens are not the policy's.
        """
        if self.model is None or not self.model.head.has_terms or self.model.kind == "backbone":
            return None
        if observation.token_scores is None:
            return self.model.explain_groups(rollout.groups)
        return [terms[mask] for terms, mask in zip(observation.token_scores, rollout.mask, strict=True)]

    def _groups(self, rollout: Rollout) -> list[Group]:
        """The rollout in the reward model's token ids: encoded again where it has a tokenizer of its own."""
        if self.model.kind != "backbone":
            return rollout.groups
        tokenizer, k = self.model.trunk.tokenizer, rollout.samples_per_prompt
        return [
            encode_group(
                tokenizer,
                prompt.messages,
                [sample.text for sample in rollout.samples[number * k : (number + 1) * k]],
                max_prompt_tokens=self.config.max_prompt_tokens,
                max_completion_tokens=self.config.max_completion_tokens,
            )
            for number, prompt in enumerate(rollout.prompts)
        ]


def load_scorer(folder: RunFolder, function: str | None, *, base: Policy, reward_model: Path | None = None) -> Scorer:
    """The named function, or else the reward model that was named, or else that of the run."""
    if function is not None:
        return Scorer(None, _import(function), folder.config)
    path, config = paying_model_folder(folder, reward_model), folder.config
    options = {"dtype": config.dtype, "trust_remote_code": config.trust_remote_code}
    return Scorer(load_reward_model(path, base=base, **options), None, config)


def scorer_inputs(folder: RunFolder, function: str | None, reward_model: Path | None) -> dict[str, Path]:
    """What scores, as inputs by name (`inputs.py`): the file of a function's module, else the model and its backbone.

    The judge, and what a critic starts as, are of that model too.
    """
    if function is not None:
        _import(function)  # which says what is wrong with its name
        module = importlib.import_module(function.partition(":")[0])
        return {f"--reward {function}": Path(getattr(module, "__file__", None) or function)}
    path = paying_model_folder(folder, reward_model)
    record = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    backbone = {"reward.backbone": Path(record["backbone"])} if "backbone" in record else {}
    return {"reward/model" if reward_model is None else "--reward-model": path} | backbone


def paying_model_folder(folder: RunFolder, named: Path | None) -> Path:
    """`reward_model_folder`, of a stage that a function could pay too; `StageError` if the run has none."""
    path = reward_model_folder(folder, named)
    if not path.exists():
        raise StageError("there is no reward/model: run the reward stage first, or name a function with --reward")
    return path


def reward_model_folder(folder: RunFolder, named: Path | None) -> Path:
    """The reward model in the folder that was named, any run's `reward/` or the model itself; by default the run's own.

    Raises `StageError` if there is none in a folder that was named, or one on another base than the run's.
    """
    reward = folder.path / "reward" if named is None else named
    path = reward / "model" if named is None or (reward / "model").is_dir() else named
    if (path / "head.safetensors").exists() and (path / "manifest.json").exists():
        record = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        check_base(path, record.get("base_model"), folder.config)
    elif named is not None:
        raise StageError(f"there is no reward model in {named}")
    return path


def _numbers(returned: Any) -> list[float]:
    """What a function returned, if it is numbers in order; of anything else none are."""
    if isinstance(returned, Mapping | Set | str):
        return []
    try:
        return [float(score) for score in returned]
    except (TypeError, ValueError):
        return []


def _import(name: str) -> RewardFunction:
    module, _, attribute = name.partition(":")
    if not attribute or not module or module.startswith(".") or "/" in module:
        raise ConfigError(f"--reward: must be module:function, not {name!r}")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"--reward: {error}") from error
    if not callable(found):
        raise ConfigError(f"--reward: {name} is no function")
    return found
