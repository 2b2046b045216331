"""Rankings to pooled features of the frozen base, chunk by chunk, each kept on disk: what a kill can lose is one chunk.

Few rankings get the features of every pooling and layer in question. Of more than `SEARCH_RANKINGS` only a sample does;
when cross-validation has chosen, the rest get features of the chosen layer alone, which costs a fraction of the depth.
Under several processes each computes its share of the chunks and all read them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from trainer.rlhf.checkpoint import write_checkpoint
from trainer.rlhf.config import RewardConfig, RunConfig
from trainer.rlhf.data import Ranking
from trainer.rlhf.encoding import encode_completion, encode_prompt
from trainer.rlhf.folder import StageError
from trainer.rlhf.journal import Journal
from trainer.rlhf.packing import Group
from trainer.rlhf.policy import Policy
from trainer.rlhf.processes import Processes
from trainer.rlhf.trunk import depth, pooled_features, trunk_of

CHUNK_RANKINGS = 16  # one step of progress
FEATURE_TOKENS = 4096  # tokens of one forward
SEARCH_RANKINGS = 600  # enough to choose a layer by
SEARCH_LAYERS = 16  # neighbouring layers carry nearly the same

Key = tuple[str, int]  # pooling, layer


class Part(NamedTuple):
    """Rankings with the features and the length in tokens of each of their completions, in order."""

    rankings: list[Ranking]
    features: dict[Key, Float[Tensor, "completion hidden"]]
    lengths: Float[Tensor, " completion"]


class Encoded(Sequence[Group]):
    """Rankings as token ids, encoded when asked for: memory does not grow with their number."""

    def __init__(self, rankings: Sequence[Ranking], base: Policy, config: RunConfig):
        self.rankings, self.base, self.config = rankings, base, config

    def __len__(self) -> int:
        return len(self.rankings)

    def __getitem__(self, place: int) -> Group:
        return group_of(self.rankings[place], self.base, self.config)


def group_of(ranking: Ranking, base: Policy, config: RunConfig) -> Group:
    """The token ids of a ranking's prompt and completions, as PPO will have them scored."""
    return Group(
        encode_prompt(base.tokenizer, ranking.prompt, max_tokens=config.max_prompt_tokens),
        [
            encode_completion(base.tokenizer, completion.text, max_tokens=config.max_completion_tokens)
            for completion in ranking.completions
        ],
    )


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


def sample_of(rankings: list[Ranking], seed: int) -> list[Ranking]:
    """At most `SEARCH_RANKINGS`, in their order, drawn by seed."""
    if len(rankings) <= SEARCH_RANKINGS:
        return rankings
    drawn = torch.randperm(len(rankings), generator=torch.Generator().manual_seed(seed))[:SEARCH_RANKINGS]
    return [rankings[place] for place in sorted(drawn.tolist())]


def chunks_of(rankings: Sequence[Ranking]) -> int:
    """Steps that reading takes."""
    return -(-len(rankings) // CHUNK_RANKINGS)


class FeatureReader:
    """Reads parts of a run's rankings under names of their own; a name read before is loaded."""

    def __init__(self, base: Policy, config: RunConfig, state: Path, journal: Journal, processes: Processes):
        self.base, self.config, self.state = base, config, state
        self.journal, self.processes = journal, processes

    @property
    def keys(self) -> list[Key]:
        return search_keys(self.config.reward, depth(self.base.model))

    @property
    def done(self) -> int:
        """Chunks that stand on disk."""
        return len(list(self.state.glob("*-*/manifest.json")))

    def read(self, name: str, rankings: list[Ranking], keys: Collection[Key]) -> Part:
        """Features of all the rankings at every key."""
        starts = range(0, len(rankings), CHUNK_RANKINGS)
        paths = [self.state / f"{name}-{number:06d}" for number in range(len(starts))]
        for number, (start, path) in enumerate(zip(starts, paths, strict=True)):
            if (path / "manifest.json").exists() or number % self.processes.world != self.processes.rank:
                self.journal.skip()
            else:
                self.journal.stop.check()
                self._compute(path, rankings[start : start + CHUNK_RANKINGS], keys)
        self.processes.barrier()
        return self._join(rankings, paths, keys)

    def _join(self, rankings: list[Ranking], paths: Sequence[Path], keys: Collection[Key]) -> Part:
        count, size = sum(len(ranking.ranks) for ranking in rankings), trunk_of(self.base.model).config.hidden_size
        features = {key: torch.empty(count, size) for key in keys}
        lengths = torch.empty(count)
        start = 0
        for path in paths:
            chunk = load_file(path / "features.safetensors")
            end = start + len(chunk["lengths"])
            lengths[start:end] = chunk["lengths"]
            for pooling, layer in keys:
                features[pooling, layer][start:end] = chunk[f"{pooling}.{layer}"]
            start = end
        return Part(rankings, features, lengths)

    def _compute(self, path: Path, rankings: Sequence[Ranking], keys: Collection[Key]) -> None:
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
        size = {"reward/rankings": float(len(rankings)), "reward/tokens": float(sum(group.tokens for group in groups))}
        self.journal.note(size, message="reading rankings")
