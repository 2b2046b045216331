"""The `reward` stage: rankings in, a reward model, its judge and its report out.

    python -m trainer.rlhf reward RUN_FOLDER

Features of the frozen base are computed chunk by chunk and kept in `reward/state`, so that a killed stage goes on where
it was. Cross-validation over prompts chooses pooling, layer and ridge, and the probe is fitted. Of the training prompts
a disjoint share goes to the judge. Held-out prompts are never learned from.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from trainer.rlhf import reward_report
from trainer.rlhf.checkpoint import write_checkpoint
from trainer.rlhf.config import RewardConfig, RunConfig
from trainer.rlhf.data import Ranking, read_rankings, split_by_prompt
from trainer.rlhf.encoding import encode_completion, encode_prompt
from trainer.rlhf.folder import Pace, RunFolder, StageError, StopSignal, write_json
from trainer.rlhf.packing import Group
from trainer.rlhf.pairs import folds_of, pairs_of
from trainer.rlhf.policy import Policy, load_policy
from trainer.rlhf.probe import Candidate, choose, fit_probe
from trainer.rlhf.reward_head import RewardHead, centred, score_pooled
from trainer.rlhf.reward_model import RewardModel, save_reward_model
from trainer.rlhf.trunk import depth, pooled_features

CHUNK_RANKINGS = 16  # one step of progress, and all that a kill can lose
FEATURE_TOKENS = 4096  # tokens of one forward
SEARCH_RANKINGS = 600  # enough to choose a layer; more rankings get features of the chosen one only
SEARCH_LAYERS = 16  # neighbouring layers carry nearly the same
DOUBTFUL_SHOWN = 100

Key = tuple[str, int]  # pooling, layer


class Part(NamedTuple):
    """Rankings with the features and the length in tokens of each of their completions, in order."""

    rankings: list[Ranking]
    features: dict[Key, Float[Tensor, "completion hidden"]]
    lengths: Float[Tensor, " completion"]


class Fitted(NamedTuple):
    """A head and the settings it was chosen from, the chosen one first."""

    head: RewardHead
    candidates: list[Candidate]


def train_reward(folder: RunFolder, stop: StopSignal | None = None) -> None:
    """Trains the reward model of a run folder; `reward/report.json` is written last.

    Raises `DataError` for a line that cannot be read and `StageError` where there is too little to learn from.
    """
    config = folder.config
    learning, judging, held_out = split(read_rankings(folder.path / "rankings.jsonl"), config)
    base = load_policy(config.base_model, dtype=config.dtype, trust_remote_code=config.trust_remote_code)
    reader = _Reader(base, config, folder, stop or StopSignal())
    parts = [rankings for rankings in (learning, judging, held_out) if rankings]
    keys = search_keys(config.reward, depth(base.model))

    is_small = sum(map(len, parts)) <= SEARCH_RANKINGS
    searched = parts if is_small else [_sample(rankings, config.seed) for rankings in parts[: 1 + bool(judging)]]
    reader.plan(searched, [] if is_small else parts)
    seen = reader.read("search", searched, keys)
    reader.say("choosing pooling, layer and ridge by cross-validation over prompts")
    choices = [search(part, config.reward, config.seed) for part in seen[: 1 + bool(judging)]]
    if not is_small:
        seen = reader.read("chosen", parts, {(choice[0].pooling, choice[0].layer) for choice in choices})
    fitted = [
        Fitted(fit_head(part, choice[0], config.reward), choice) for part, choice in zip(seen, choices, strict=False)
    ]
    judge = fitted[1] if judging else None

    reader.say("measuring on prompts it never saw")
    model = RewardModel("probe", base, base, fitted[0].head, judge and judge.head, {})
    save_reward_model(model, folder.stage("reward") / "model", {"seed": config.seed})
    report = measure(seen, fitted, config, has_judge=bool(judging))
    reader.say(report["verdict"], {"reward/accuracy": report["accuracy"]["value"]})
    write_json(folder.product("reward"), report)


def split(rankings: list[Ranking], config: RunConfig) -> tuple[list[Ranking], list[Ranking], list[Ranking]]:
    """Rankings to learn from, to train the judge on, and held out; no prompt is in two of them."""
    train, held_out = split_by_prompt(rankings, held_out_share=config.reward.held_out_share, seed=config.seed)
    unmarked = [replace(ranking, split=None) for ranking in train]
    learning, judging = split_by_prompt(unmarked, held_out_share=config.reward.judge_share, seed=config.seed + 1)
    for whose, part in (("the reward model", learning), ("its judge", judging)):
        prompts = {ranking.prompt_id for ranking in part if len(set(ranking.ranks)) > 1}
        if len(prompts) < 2 and (part is learning or config.reward.judge_share > 0):
            raise StageError(
                f"{whose} needs rankings of at least 2 training prompts and has {len(prompts)}: rank more prompts"
            )
    return learning, judging, held_out


def search_keys(config: RewardConfig, layers: int) -> list[Key]:
    """Poolings and layers to try: those the configuration fixes, else both and an even grid over the depth."""
    poolings = ("last", "mean") if config.pooling == "auto" else (config.pooling,)
    if config.layer is not None:
        if not 0 <= config.layer <= layers:
            raise StageError(f"reward.layer {config.layer}: this base has hidden states 0 to {layers}")
        return [(pooling, config.layer) for pooling in poolings]
    stride = max(1, layers // (SEARCH_LAYERS - 1))
    grid = sorted({*range(layers, -1, -stride), 0})
    return [(pooling, layer) for pooling in poolings for layer in grid]


def search(part: Part, config: RewardConfig, seed: int) -> list[Candidate]:
    """Settings of the probe, the best first by cross-validation over the part's prompts."""
    pairs = pairs_of(part.rankings, ties=config.ties, label_smoothing=config.label_smoothing)
    folds = folds_of(pairs, folds=config.folds, seed=seed)
    return choose(part.features, pairs, folds, l2=config.l2)


def fit_head(part: Part, chosen: Candidate, config: RewardConfig) -> RewardHead:
    """The probe on all of the part, its training scores centred."""
    pairs = pairs_of(part.rankings, ties=config.ties, label_smoothing=config.label_smoothing)
    features = part.features[chosen.pooling, chosen.layer]
    head = RewardHead(chosen.pooling, chosen.layer, fit_probe(features, pairs, chosen.l2).float())
    return centred(head, score_pooled(head, features))


def _sample(rankings: list[Ranking], seed: int) -> list[Ranking]:
    """At most `SEARCH_RANKINGS`, in their order, drawn by seed."""
    if len(rankings) <= SEARCH_RANKINGS:
        return rankings
    drawn = torch.randperm(len(rankings), generator=torch.Generator().manual_seed(seed))[:SEARCH_RANKINGS]
    return [rankings[place] for place in sorted(drawn.tolist())]


class _Reader:
    """Turns rankings into features, chunk by chunk, keeping each on disk and reporting progress."""

    def __init__(self, base: Policy, config: RunConfig, folder: RunFolder, stop: StopSignal):
        self.base, self.config, self.stop = base, config, stop
        self.state, self.log = folder.stage("reward") / "state", folder.log("reward")
        self.step = 0

    def plan(self, *readings: Sequence[list[Ranking]]) -> None:
        """Counts the steps to come; lines of a killed run that came after its last chunk are cut."""
        chunks = sum(len(_chunks(rankings)) for parts in readings for rankings in parts)
        self.steps = chunks + 3  # choosing, measuring, done
        self.pace = Pace(self.steps)
        self.log.cut(len(list(self.state.glob("*/manifest.json"))))

    def say(self, message: str, metrics: Mapping[str, float] | None = None) -> None:
        self.step += 1
        self.log.append(self.step, self.steps, metrics, message=message)

    def read(self, name: str, parts: Sequence[list[Ranking]], keys: Collection[Key]) -> list[Part]:
        """Features of every part at every key."""
        return [self._part(f"{name}-{number}", rankings, keys) for number, rankings in enumerate(parts)]

    def _part(self, name: str, rankings: list[Ranking], keys: Collection[Key]) -> Part:
        columns: dict[Key, list[Tensor]] = {key: [] for key in keys}
        lengths = []
        for number, chunk in enumerate(_chunks(rankings)):
            tensors = self._chunk(self.state / f"{name}-{number:06d}", chunk, keys)
            lengths.append(tensors["lengths"])
            for (pooling, layer), column in columns.items():
                column.append(tensors[f"{pooling}.{layer}"])
        return Part(rankings, {key: torch.cat(column) for key, column in columns.items()}, torch.cat(lengths))

    def _chunk(self, path: Path, rankings: Sequence[Ranking], keys: Collection[Key]) -> dict[str, Tensor]:
        self.step += 1
        if (path / "manifest.json").exists():
            return load_file(path / "features.safetensors")
        self.stop.check()
        groups = [group_of(ranking, self.base, self.config) for ranking in rankings]
        features = pooled_features(
            self.base.model,
            groups,
            poolings=sorted({pooling for pooling, _ in keys}),
            layers=sorted({layer for _, layer in keys}),
            pad_id=self.base.pad_id,
            max_tokens=FEATURE_TOKENS,
            is_packed=self.config.reward.is_packed,
        )
        tensors = {f"{pooling}.{layer}": features[pooling, layer] for pooling, layer in keys}
        tensors["lengths"] = torch.tensor([float(len(ids)) for group in groups for ids in group.completions])
        write_checkpoint(path, {"features": tensors}, {"rankings": len(rankings)})
        tokens = float(sum(group.tokens for group in groups))
        left = self.pace.left(self.step)
        self.log.append(self.step, self.steps, {"reward/tokens": tokens}, seconds_left=left, message="reading rankings")
        return tensors


def _chunks(rankings: Sequence[Ranking]) -> list[Sequence[Ranking]]:
    return [rankings[start : start + CHUNK_RANKINGS] for start in range(0, len(rankings), CHUNK_RANKINGS)]


def group_of(ranking: Ranking, base: Policy, config: RunConfig) -> Group:
    """The token ids of a ranking's prompt and completions, as PPO will have them scored."""
    return Group(
        encode_prompt(base.tokenizer, ranking.prompt, max_tokens=config.max_prompt_tokens),
        [
            encode_completion(base.tokenizer, completion.text, max_tokens=config.max_completion_tokens)
            for completion in ranking.completions
        ],
    )


def measure(parts: Sequence[Part], fitted: Sequence[Fitted], config: RunConfig, *, has_judge: bool) -> dict[str, Any]:
    """The report: the fitted head on the held-out part, or out of fold where nothing is held out."""
    head, candidates = fitted[0]
    key = (head.pooling, head.layer)
    learned = parts[0]
    sign = reward_report.length_sign(learned.rankings, learned.lengths.numpy())
    held_out = parts[1 + has_judge] if len(parts) > 1 + has_judge else None
    extra: dict[str, Any] = {
        "chosen": candidates[0]._asdict(),
        "candidates": [candidate._asdict() for candidate in candidates],
        "training_range": [head.low, head.high],
        "training_rankings": len(learned.rankings),
    }
    if held_out is None:
        raise StageError("no prompt is held out: set reward.held_out_share above 0 or mark prompts held_out")
    judged = reward_report.Judged(
        held_out.rankings, score_pooled(head, held_out.features[key]).numpy(), held_out.lengths.numpy()
    )
    return reward_report.build_report(judged, length_sign=sign, seed=config.seed, extra=extra)
