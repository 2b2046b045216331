"""Rankings to pooled features of the frozen base, chunk by chunk, each kept on disk: what a kill can lose is one chunk.

Few rankings get the features of every pooling and layer in question. Of more than `SEARCH_RANKINGS` only a sample does;
when cross-validation has chosen, the rest get the chosen readings alone, no deeper than the deepest of them,
and these stay on disk: memory does not grow with the rankings.
Under several processes each computes its share of the chunks and all read them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor

from trainer.rlhf.checkpoint import write_checkpoint
from trainer.rlhf.config import RewardConfig, RunConfig
from trainer.rlhf.context import context_of
from trainer.rlhf.data import Ranking
from trainer.rlhf.encoding import encode_group, naming
from trainer.rlhf.feature_rows import Features, StoredRows
from trainer.rlhf.folder import StageError
from trainer.rlhf.journal import Journal
from trainer.rlhf.packing import Group
from trainer.rlhf.policy import Policy
from trainer.rlhf.processes import Processes
from trainer.rlhf.ranking_file import sizes_of
from trainer.rlhf.trunk import check_completion, depth, is_encoder, pooled_features, trunk_of

CHUNK_RANKINGS = 16  # one step of progress
FEATURE_TOKENS = 4096  # tokens of one forward
SEARCH_RANKINGS = 600  # enough to choose a layer by
SEARCH_LAYERS = 16  # neighbouring layers carry nearly the same

Key = tuple[str, int]  # pooling, layer: a Reading


class Part(NamedTuple):
    """Rankings with the features and the whole length in tokens of each of their completions, in order."""

    rankings: Sequence[Ranking]
    features: dict[Key, Features]
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
    return _cut(_whole_group_of(ranking, base, config), config)


def _cut(group: Group, config: RunConfig) -> Group:
    return group._replace(completions=[ids[: config.max_completion_tokens] for ids in group.completions])


def _whole_group_of(ranking: Ranking, base: Policy, config: RunConfig) -> Group:
    """As `group_of`, with the completions as long as those who ranked them saw them."""
    with naming(f"ranking “{ranking.id}”"):
        return encode_group(
            base.tokenizer,
            ranking.prompt,
            [completion.text for completion in ranking.completions],
            max_prompt_tokens=config.max_prompt_tokens,
            max_completion_tokens=None,
            sampled=[completion.token_ids for completion in ranking.completions],
        )


def refuse_long_rankings(rankings: Iterable[Ranking], base: Policy, config: RunConfig) -> None:
    """Raises `StageError` for the first that the model's context does not hold, before any is read.

    Nothing is encoded for it where no ranking can be so long.
    """
    context = context_of(trunk_of(base.model), is_masked_by_us=not is_encoder(base.model))
    if context is None or config.max_prompt_tokens + config.max_completion_tokens <= context.tokens:
        return
    for ranking in rankings:
        group = group_of(ranking, base, config)
        tokens = len(group.prompt_ids) + max(map(len, group.completions))
        check_completion(base.model, tokens, f"ranking “{ranking.id}”")


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


def sample_of(rankings: Sequence[Ranking], seed: int) -> Sequence[Ranking]:
    """At most `SEARCH_RANKINGS`, in their order, drawn by seed."""
    if len(rankings) <= SEARCH_RANKINGS:
        return rankings
    drawn = torch.randperm(len(rankings), generator=torch.Generator().manual_seed(seed))[:SEARCH_RANKINGS]
    return [rankings[place] for place in sorted(drawn.tolist())]


def chunks_of(rankings: int) -> int:
    """Steps that reading so many takes."""
    return -(-rankings // CHUNK_RANKINGS)


class FeatureReader:
    """Reads parts of a run's rankings under names of their own; what was read before is found on disk."""

    def __init__(self, base: Policy, config: RunConfig, state: Path, journal: Journal, processes: Processes):
        self.base, self.config, self.state = base, config, state
        self.journal, self.processes = journal, processes

    @property
    def keys(self) -> list[Key]:
        return search_keys(self.config.reward, depth(self.base.model))

    @property
    def done(self) -> int:
        """Chunks that stand on disk."""
        return len(list(self.state.glob("[!.]*-*/manifest.json")))

    def read(self, name: str, rankings: Sequence[Ranking], keys: Collection[Key]) -> Part:
        """Features of all the rankings at every key: in memory those of few rankings, on disk those of many."""
        for numbers in self.processes.rounds(chunks_of(len(rankings))):
            self.journal.stop.check(self.processes)
            for number in numbers:
                path = self._path(name, number)
                if (path / "manifest.json").exists() or number % self.processes.world != self.processes.rank:
                    self.journal.skip()
                else:
                    start = number * CHUNK_RANKINGS
                    self._compute(path, rankings[start : start + CHUNK_RANKINGS], keys)
        self.processes.barrier()
        part = self._stored(name, rankings, keys)
        if len(rankings) > SEARCH_RANKINGS:
            return part
        rows = torch.arange(len(part.lengths))
        return part._replace(features={key: features[rows] for key, features in part.features.items()})

    def _path(self, name: str, number: int) -> Path:
        return self.state / f"{name}-{number:06d}"

    def _stored(self, name: str, rankings: Sequence[Ranking], keys: Collection[Key]) -> Part:
        ends = np.append(0, sizes_of(rankings)).cumsum()
        starts = torch.from_numpy(np.append(ends[:-1:CHUNK_RANKINGS], ends[-1]))

        def path_of(number: int) -> Path:
            return self._path(name, number) / "features.safetensors"

        size = trunk_of(self.base.model).config.hidden_size
        features = {
            (pooling, layer): StoredRows(path_of, starts, f"{pooling}.{layer}", size) for pooling, layer in keys
        }
        lengths = torch.cat([*_column("lengths", map(path_of, range(len(starts) - 1)))])
        return Part(rankings, features, lengths)

    def _compute(self, path: Path, rankings: Sequence[Ranking], keys: Collection[Key]) -> None:
        whole = [_whole_group_of(ranking, self.base, self.config) for ranking in rankings]
        groups = [_cut(group, self.config) for group in whole]
        features = pooled_features(
            self.base.model,
            groups,
            readings=keys,
            pad_id=self.base.pad_id,
            max_tokens=FEATURE_TOKENS,
            is_packed=self.config.reward.is_packed,
        )
        tensors = {f"{pooling}.{layer}": features[pooling, layer] for pooling, layer in keys}
        tensors["lengths"] = torch.tensor([float(len(ids)) for group in whole for ids in group.completions])
        write_checkpoint(path, {"features": tensors}, {"rankings": len(rankings)})
        size = {"reward/rankings": float(len(rankings)), "reward/tokens": float(sum(group.tokens for group in groups))}
        self.journal.note(size, message="reading rankings")


def _column(name: str, paths: Iterator[Path]) -> Iterator[Float[Tensor, " completion"]]:
    for path in paths:
        with safe_open(path, "pt") as file:
            yield file.get_tensor(name).clone()  # as it comes, it keeps its whole file in memory
