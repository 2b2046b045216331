"""The reward model: a trunk, a head that scores, and the head of an independent judge.

The trunk is the frozen base (`kind` probe), the base with an adapter of its own (lora), weights of its own (full), or
another frozen model with a tokenizer of its own (backbone). The judge is always a probe on the frozen base, fitted on
prompts the scoring head never saw.

On disk, one flat folder: `manifest.json` (kind, heads' facts, sha256 of every file), `head.safetensors`, and for lora a
PEFT adapter, for full a whole model. Saved and loaded models give the same scores to the bit.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainer.rlhf import reward_head
from trainer.rlhf.checkpoint import check_manifest, write_manifest
from trainer.rlhf.folder import new_folder
from trainer.rlhf.packing import Group, pack
from trainer.rlhf.policy import Policy, load_policy
from trainer.rlhf.reward_head import Hidden, RewardHead, head_of, row_owner
from trainer.rlhf.trunk import hidden_states, is_encoder, packed_inputs, pooled_features, rows_for

ADAPTER = "reward"
SCORED_GROUPS = 1024  # whose token ids and features are held in memory at once


class RewardModel(NamedTuple):
    """Scores completions. `base` is the frozen base the judge reads; `trunk` is the same object for a probe.

    Groups and rows to be scored are in the trunk's token ids, those to be judged in the base's.
    """

    kind: str  # probe | lora | full | backbone
    trunk: Policy
    base: Policy
    head: RewardHead
    judge_head: RewardHead | None
    record: dict[str, Any]  # the manifest it was loaded from
    voters: tuple[RewardHead, ...] = ()  # bootstrapped twins of the fitted probe, which read its trunk frozen

    @property
    def is_frozen_trunk(self) -> bool:
        """Whether the scores can be read off the hidden states of the base, as it stands in memory."""
        return self.kind == "probe"

    @property
    def is_tuned(self) -> bool:
        """Whether the trunk was trained on rankings."""
        return self.kind in ("lora", "full")

    def score(
        self,
        input_ids: Int[Tensor, "batch time"],
        attention_mask: Bool[Tensor, "batch time"],
        completion_mask: Bool[Tensor, "batch time"],
    ) -> Float[Tensor, " batch"]:
        """One score a row; padding may stand on either side (an encoder's on the right)."""
        return reward_head.score_hidden(self.head, self._hidden(input_ids, attention_mask), completion_mask)

    def token_scores(
        self,
        input_ids: Int[Tensor, "batch time"],
        attention_mask: Bool[Tensor, "batch time"],
        completion_mask: Bool[Tensor, "batch time"],
    ) -> Float[Tensor, "batch time"]:
        """Each completion token's term, 0 elsewhere; see `reward_head.token_scores`."""
        return reward_head.token_scores(self.head, self._hidden(input_ids, attention_mask), row_owner(completion_mask))

    def score_groups(self, groups: Sequence[Group], *, max_tokens: int = 4096) -> Float[Tensor, " completion"]:
        """Scores of every completion of every group, each prompt computed once."""
        return _score_groups(self.trunk, self._adapter, self.head, groups, max_tokens)

    @torch.no_grad()
    def explain_groups(self, groups: Sequence[Group]) -> list[Float[Tensor, " time"]]:
        """The term of each token of each completion, whose mean (or last, without terms) is the score."""
        batch = pack(rows_for(self.trunk.model, groups), pad_id=self.trunk.pad_id)
        with using_adapter(self.trunk, self._adapter):
            inputs = packed_inputs(batch, self.trunk.model)
            hidden = hidden_states(self.trunk.model, self.head.layers, **inputs)
        terms = reward_head.token_scores(self.head, hidden, batch.owner.to(self.trunk.device)).cpu()
        return [terms[batch.owner == number] for number in range(batch.count)]

    def judge_groups(self, groups: Sequence[Group], *, max_tokens: int = 4096) -> Float[Tensor, " completion"]:
        """The independent judge's scores; raises ValueError where none was trained."""
        if self.judge_head is None:
            raise ValueError("this reward model was trained without a judge (reward.judge_share 0)")
        return _score_groups(self.base, None, self.judge_head, groups, max_tokens)

    @property
    def _adapter(self) -> str | None:
        return ADAPTER if self.kind == "lora" else None

    @torch.no_grad()
    def _hidden(self, input_ids: Tensor, attention_mask: Tensor) -> Hidden:
        device = self.trunk.device
        attention_mask = attention_mask.to(device).long()
        inputs = {"input_ids": input_ids.to(device), "attention_mask": attention_mask}
        if not is_encoder(self.trunk.model):
            inputs["position_ids"] = (attention_mask.cumsum(1) - 1).clamp(min=0)
        with using_adapter(self.trunk, self._adapter):
            return hidden_states(self.trunk.model, self.head.layers, **inputs)


def _score_groups(
    trunk: Policy, adapter: str | None, head: RewardHead, groups: Sequence[Group], max_tokens: int
) -> Float[Tensor, " completion"]:
    scores = []
    with using_adapter(trunk, adapter):
        for start in range(0, len(groups), SCORED_GROUPS):
            features = pooled_features(
                trunk.model,
                [groups[number] for number in range(start, min(start + SCORED_GROUPS, len(groups)))],
                readings=head.readings,
                pad_id=trunk.pad_id,
                max_tokens=max_tokens,
            )
            scores.append(reward_head.score_pooled(head.to("cpu"), features))
    return torch.cat(scores)


@contextmanager
def using_adapter(policy: Policy, name: str | None) -> Iterator[None]:
    """Makes `name` the active adapter (None: the bare base) while inside, and the earlier one again afterwards."""
    before = policy.active_adapter
    policy.use_adapter(name)
    try:
        yield
    finally:
        policy.use_adapter(before)


def save_reward_model(model: RewardModel, path: Path, record: Mapping[str, Any]) -> None:
    """Writes the model's folder, whole or not at all."""
    voters = {f"voter{number}": head for number, head in enumerate(model.voters)}
    heads = {"head": model.head, "judge": model.judge_head, **voters}
    facts = {
        name: head.facts() | {"weight": f"{name}.weight in head.safetensors"}
        for name, head in heads.items()
        if head is not None
    }
    with new_folder(path) as folder:
        weights = {f"{name}.weight": head.weight.cpu() for name, head in heads.items() if head is not None}
        save_file(weights, folder / "head.safetensors")
        if model.is_tuned:
            _save_trunk(model, folder)
        models = {"base_model": str(model.base.model.config.name_or_path)}
        if model.kind == "backbone":
            models["backbone"] = str(model.trunk.model.config.name_or_path)
        write_manifest(folder, {"format": 1, "kind": model.kind, **models, **facts, **record})


def _save_trunk(model: RewardModel, folder: Path) -> None:
    inner = folder / "trunk"
    if model.kind == "lora":
        model.trunk.save_adapter(ADAPTER, inner, {})
    else:
        model.trunk.save_weights(inner, {})
    (inner / "manifest.json").unlink()
    for file in inner.iterdir():
        file.rename(folder / file.name)
    shutil.rmtree(inner)


def load_reward_model(
    path: Path | str, *, base: Policy | None = None, dtype: str = "auto", trust_remote_code: bool = False
) -> RewardModel:
    """A saved reward model; `base` shares a base already in memory, else the one it was trained on is loaded.

    Raises `CheckpointError` when a file is missing or is not the one that was saved.
    """
    path = Path(path)
    record = check_manifest(path)
    options = {"dtype": dtype, "trust_remote_code": trust_remote_code}
    base = base or load_policy(record["base_model"], **options)
    trunk = base
    if record["kind"] == "lora":
        if ADAPTER not in base.adapters():
            base.add_adapter(ADAPTER, path)
    elif record["kind"] == "backbone":
        trunk = load_policy(record["backbone"], device=base.device, can_be_encoder=True, **options)
    elif record["kind"] == "full":
        trunk = load_policy(record["base_model"], adapter=path, device=base.device, **options)
    weights = load_file(path / "head.safetensors")
    heads = {
        name: head_of(record[name], weights[f"{name}.weight"]).to(base.device)
        for name in (key.removesuffix(".weight") for key in weights)
    }
    voters = tuple(heads[f"voter{number}"] for number in range(len(heads.keys() - {"head", "judge"})))
    return RewardModel(record["kind"], trunk, base, heads["head"], heads.get("judge"), record, voters)
