"""Probes on a frozen model's features: read, chosen by cross-validation over prompts, fitted and blended.

Models that did not see a pair vote on it; what they doubt is treated as the configuration says before the fit.
Of few rankings the features of every candidate are in memory; of many, those of a sample are searched, and the chosen
ones alone are read of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from trainer.rlhf.config import RewardConfig, RunConfig
from trainer.rlhf.data import Ranking
from trainer.rlhf.doubts import Votes, mend, out_of_fold_votes
from trainer.rlhf.feature_rows import BLOCK_ROWS
from trainer.rlhf.pairs import Pairs, folds_of, pairs_of
from trainer.rlhf.probe import Choice, choose, fit_blend
from trainer.rlhf.reward_features import SEARCH_RANKINGS, FeatureReader, Key, Part, chunks_of, sample_of
from trainer.rlhf.reward_head import Reading, RewardHead, centred, score_pooled
from trainer.rlhf.reward_split import Split


class Probed(NamedTuple):
    """A part of the rankings and all that was learned from it on frozen features."""

    part: Part
    choice: Choice
    pairs: Pairs  # as labelled
    votes: Votes | None
    lesson: Pairs  # with doubtful pairs treated
    head: RewardHead

    @property
    def scores(self) -> Float[Tensor, " completion"]:
        return scores_of(self.head, self.part)


def planned_chunks(split: Split, *, trunks: int) -> int:
    """Chunks of features to read: all rankings (held-out ones by each trunk), before them a sample of many."""
    chunks = sum(chunks_of(len(rankings)) for rankings in split)
    if trunks == 2 and split.judging:
        chunks += chunks_of(len(split.held_out))
    if sum(map(len, split)) > SEARCH_RANKINGS:
        chunks += sum(chunks_of(min(len(part), SEARCH_RANKINGS)) for part in (split.learning, split.judging))
    return chunks


def read_and_probe(
    readers: Mapping[str, FeatureReader], split: Split, config: RunConfig
) -> tuple[Probed, Probed | None, dict[str, Part]]:
    """Features of all parts, and the probes of the reward model and its judge, each chosen on its own prompts.

    The held-out part is as each of the two reads it.
    """
    trained = {"learning": split.learning} | ({"judging": split.judging} if split.judging else {})
    seeds = {"learning": config.seed, "judging": config.seed + 1}
    if sum(map(len, split)) <= SEARCH_RANKINGS:
        parts = {name: readers[name].read(name, rankings, readers[name].keys) for name, rankings in trained.items()}
        choices = {name: search(part, config.reward, seeds[name]) for name, part in parts.items()}
        keys = {name: readers[name].keys for name in trained}
    else:
        samples = {name: sample_of(rankings, config.seed) for name, rankings in trained.items()}
        searched = {
            name: readers[name].read(f"{name}.sample", sample, readers[name].keys) for name, sample in samples.items()
        }
        choices = {name: search(part, config.reward, seeds[name]) for name, part in searched.items()}
        keys = {name: sorted({member.reading for member in choice.blend}) for name, choice in choices.items()}
        parts = {name: readers[name].read(name, rankings, keys[name]) for name, rankings in trained.items()}
    held_out = read_held_out(readers, split.held_out, keys)
    probed = {name: probe(part, choices[name], config.reward, seeds[name]) for name, part in parts.items()}
    return probed["learning"], probed.get("judging"), held_out


def read_held_out(
    readers: Mapping[str, FeatureReader], rankings: Sequence[Ranking], keys: Mapping[str, Sequence[Key]]
) -> dict[str, Part]:
    """The held-out part under the name of each that was trained; read once where both read the same model."""
    if readers["learning"] is readers["judging"]:
        part = readers["learning"].read("held_out", rankings, sorted({key for own in keys.values() for key in own}))
        return dict.fromkeys(keys, part)
    names = {"learning": "held_out", "judging": "held_out.judge"}
    return {name: readers[name].read(names[name], rankings, own) for name, own in keys.items()}


def search(part: Part, config: RewardConfig, seed: int) -> Choice:
    """Settings of the probe, by cross-validation over the part's prompts."""
    pairs = pairs_of(part.rankings, ties=config.ties, label_smoothing=config.label_smoothing)
    folds = folds_of(pairs, folds=config.folds, seed=seed)
    return choose(part.features, pairs, folds, l2=config.l2, most=config.blend)


def probe(part: Part, choice: Choice, config: RewardConfig, seed: int) -> Probed:
    """Votes on the part's pairs, and the probe on all of them, its training scores centred."""
    pairs = pairs_of(part.rankings, ties=config.ties, label_smoothing=config.label_smoothing)
    votes, lesson = None, pairs
    if config.ensemble:
        folds = folds_of(pairs, folds=config.folds, seed=seed)
        votes = out_of_fold_votes(part.features, pairs, folds, choice.blend, members=config.ensemble, seed=seed)
        lesson = mend(pairs, votes, config.doubtful)
    head = probe_head(part, choice, lesson)
    return Probed(part, choice, pairs, votes, lesson, centred(head, scores_of(head, part)))


def probe_head(part: Part, choice: Choice, lesson: Pairs) -> RewardHead:
    """The blend's probes, fitted on these pairs, as one head."""
    weights = fit_blend(part.features, choice.blend, lesson)
    readings = tuple(Reading(*reading) for reading in weights)
    return RewardHead(readings, torch.stack([weights[reading] for reading in readings]).float())


def voters_of(probed: Probed) -> tuple[RewardHead, ...]:
    """Models bootstrapped from the same rankings, as heads beside the probe: where they part, nobody has ranked."""
    models = probed.votes.voters if probed.votes else ()
    weights = [torch.stack([model[reading] for reading in probed.head.readings]).float() for model in models]
    return tuple(probed.head._replace(weight=weight, bias=0.0) for weight in weights)


def scores_of(head: RewardHead, part: Part) -> Float[Tensor, " completion"]:
    """The head's score of every completion of a part."""
    rows = torch.arange(len(part.lengths)).split(BLOCK_ROWS)
    return torch.cat([score_pooled(head, {key: part.features[key][own] for key in head.readings}) for own in rows])
