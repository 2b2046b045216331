"""Each option of the reward model's loss on and off, over seeds, on a small task whose truth is known.

    python -m bench.reward_ablation [--seeds 12] [--rankings 200] [--only "centring 0.01; ties drop"]

A completion is a handful of words, and its worth the sum of its words' hidden worths, so that a score difference has a
true value. Annotators see the worths through Gumbel noise (Bradley-Terry for two, Plackett-Luce for more), call what
lies within `TIE` a tie, say in whole steps by how much their first leads, and one of four ranks at random. The trunk is
the tests' tiny Llama (fp32), tuned with LoRA from its fitted probe on, as the `reward` stage does.

Against the truth, on held-out prompts: the share of pairs in the right order; by how many nats a pair sigma(score
difference) misses the planted chance (Kullback-Leibler, 0 is perfect); and the share of right pairs among completions
of a shifted policy that has learned to use words of worth. A seed draws the worths and the words; what differs from
the baseline of the same seed stands beside each mean, with its standard error. A tiny random model is no language
model: what a row says about labels and noise carries over, what it says about text does not.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import softplus
from transformers.utils import logging as transformers_logging

from tests.tiny_models import TEXT, make_llama
from trainer.rlhf.config import LoraConfig, RewardConfig, RunConfig
from trainer.rlhf.data import Completion, Ranking
from trainer.rlhf.doubts import Votes, mend, out_of_fold_votes, strength_margin, voting_margin
from trainer.rlhf.folder import MetricsLog, StopSignal
from trainer.rlhf.journal import Journal
from trainer.rlhf.packing import Group
from trainer.rlhf.pairs import Pairs, folds_of, pairs_of
from trainer.rlhf.policy import Policy, load_policy
from trainer.rlhf.probe import choose, difference_scale, fit_blend
from trainer.rlhf.processes import ALONE
from trainer.rlhf.reward_features import group_of, search_keys
from trainer.rlhf.reward_head import Reading, RewardHead
from trainer.rlhf.reward_model import RewardModel
from trainer.rlhf.reward_tuning import Lesson, make_trainee, tune
from trainer.rlhf.trunk import depth, pooled_features

VOCABULARY = sorted({word.strip(".,;?").lower() for line in TEXT for word in line.split()})[::3]
SIZE, WORDS = 4, 6  # completions of a ranking, words of a completion
SPREAD = 1.5  # standard deviation of a completion's worth, where the annotators' noise has 1.28
TIE = 0.5  # noisy worths nearer than this are called equal
ANNOTATORS = ("a", "b", "c", "careless")
HELD_OUT = 250  # rankings to measure on, known without noise
# A model this small learns at rates a large one could not.
USUAL = {"epochs": 3, "learning_rate": 3e-3}
LORA = LoraConfig(r=4, alpha=8, dropout=0.1)  # dropout acts under SimCSE alone


class Variant(NamedTuple):
    """Options of the loss, and the weight that the careless annotator's rankings get."""

    options: dict[str, Any]
    careless: float = 1.0
    is_tuned: bool = True


VARIANTS = {
    "baseline (pairwise, ties half)": Variant({}),
    "probe, not tuned": Variant({}, is_tuned=False),
    "careless annotator's weight 0.1": Variant({}, careless=0.1),
    "margin strength": Variant({"margin": "strength"}),
    "margin votes": Variant({"margin": "votes"}),
    "label smoothing 0.1": Variant({"label_smoothing": 0.1}),
    "doubtful soft": Variant({"doubtful": "soft"}),
    "doubtful flip": Variant({"doubtful": "flip"}),
    "doubtful drop": Variant({"doubtful": "drop"}),
    "ties drop": Variant({"ties": "drop"}),
    "ties rao_kupper": Variant({"ties": "rao_kupper"}),
    "ties davidson": Variant({"ties": "davidson"}),
    "plackett_luce": Variant({"loss": "plackett_luce"}),
    "centring 0.01": Variant({"centring": 0.01}),
    "simcse 0.1": Variant({"simcse": 0.1}),
    "metarm 0.01": Variant({"metarm": 0.01}),
    "metarm 0.1": Variant({"metarm": 0.1}),
}


class Task(NamedTuple):
    """What one seed draws; the held-out parts come with the true worth of each completion."""

    train: list[Ranking]
    held_out: tuple[list[Ranking], np.ndarray]
    shifted: tuple[list[Ranking], np.ndarray]
    unranked: list[Ranking]  # of the shifted policy, for MetaRM


class Measure(NamedTuple):
    """How far scores are from the truth."""

    accuracy: float
    nats: float
    shifted: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.reward_ablation", description="The loss, option by option.")
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--rankings", type=int, default=200)
    parser.add_argument("--only", help="variants to run beside the baseline, with semicolons between (default: all)")
    options = parser.parse_args()
    transformers_logging.disable_progress_bar()
    names = [name.strip() for name in options.only.split(";")] if options.only else list(VARIANTS)[1:]
    headings = ["variant", "accuracy", "…", "nats from the truth", "…", "accuracy, shifted", "…"]
    print(f"| {' | '.join(headings)} |\n|{'---|' * len(headings)}")
    usual: list[Measure] = []
    with tempfile.TemporaryDirectory() as folder:
        base = make_llama(Path(folder))
        tasks = [make_task(seed, options.rankings) for seed in range(1, options.seeds + 1)]
        for name in [next(iter(VARIANTS)), *names]:
            found = [one_run(base, task, VARIANTS[name], seed) for seed, task in enumerate(tasks, start=1)]
            usual = usual or found
            print(f"| {name} | {' | '.join(_columns(found, usual))} |", flush=True)


def make_task(seed: int, rankings: int) -> Task:
    """Hidden worths of the words, and rankings by noisy annotators."""
    generator = np.random.default_rng(seed)
    worths = generator.normal(size=len(VOCABULARY)) * SPREAD / math.sqrt(WORDS)
    usual, shifted = np.zeros(len(VOCABULARY)), 1.5 * worths
    return Task(
        [_ranked(f"train {number}", worths, usual, generator)[0] for number in range(rankings)],
        _known("held out", worths, usual, generator),
        _known("shifted", worths, shifted, generator),
        _known("unranked", worths, shifted, generator)[0],
    )


def _known(name: str, worths: np.ndarray, taste: np.ndarray, generator: np.random.Generator) -> tuple[Any, np.ndarray]:
    drawn = [_ranked(f"{name} {number}", worths, taste, generator) for number in range(HELD_OUT)]
    return [ranking for ranking, _ in drawn], np.concatenate([values for _, values in drawn])


def _ranked(
    name: str, worths: np.ndarray, taste: np.ndarray, generator: np.random.Generator
) -> tuple[Ranking, np.ndarray]:
    """A ranking of completions whose words are drawn with chances exp(taste), and the completions' true worths."""
    chances = np.exp(taste) / np.exp(taste).sum()
    words = generator.choice(len(VOCABULARY), size=(SIZE, WORDS), p=chances)
    values = worths[words].sum(1)
    annotator = ANNOTATORS[generator.integers(len(ANNOTATORS))]
    seen = values if annotator != "careless" else generator.normal(size=SIZE) * SPREAD
    seen = seen + generator.gumbel(size=SIZE)
    order = np.argsort(-seen)
    gaps = -np.diff(seen[order])
    ranks = np.empty(SIZE, dtype=int)
    ranks[order] = 1 + np.concatenate([[0], (gaps > TIE).cumsum()])
    completions = tuple(
        Completion(str(place), " ".join(VOCABULARY[word] for word in own)) for place, own in enumerate(words)
    )
    lead = float(round(gaps[0])) if gaps[0] > TIE else None
    prompt = [{"role": "user", "content": f"Say something about {VOCABULARY[generator.integers(len(VOCABULARY))]}."}]
    return Ranking(name, name, prompt, completions, tuple(ranks.tolist()), strength=lead, annotator=annotator), values


def one_run(base: Path, task: Task, variant: Variant, seed: int) -> Measure:
    """A reward model tuned with the variant's options, measured against the truth."""
    config = RewardConfig(**USUAL | variant.options)
    policy = load_policy(base, dtype="float32", device="cpu")
    rankings = [_weighted(ranking, variant.careless) for ranking in task.train]
    groups = _groups(rankings, policy)
    pairs = pairs_of(rankings, ties=config.ties, label_smoothing=config.label_smoothing)
    keys = search_keys(config, depth(policy.model))
    features = pooled_features(policy.model, groups, readings=keys, pad_id=policy.pad_id, max_tokens=4096)
    folds = folds_of(pairs, folds=config.folds, seed=seed)
    blend = choose(features, pairs, folds, most=config.blend).blend
    votes = out_of_fold_votes(features, pairs, folds, blend, members=config.ensemble, seed=seed)
    lesson = mend(pairs, votes, config.doubtful)
    weights = fit_blend(features, blend, lesson)
    head = RewardHead(tuple(Reading(*each) for each in weights), torch.stack(list(weights.values())).float())
    if variant.is_tuned:
        scale = torch.stack([difference_scale(features[each], pairs) for each in weights]).float()
        unranked = _groups(task.unranked, policy) if config.metarm else ()
        what = Lesson(rankings, groups, lesson, _margin(config, pairs, rankings, votes), unranked)
        journal = Journal(MetricsLog(Path("unused"), "reward"), StopSignal(), is_writing=False)
        trainee = make_trainee(policy, head, LORA, scale, seed=seed)
        head = tune(trainee, what, config, seed=seed, state=None, journal=journal, processes=ALONE)
    model = RewardModel("lora" if variant.is_tuned else "probe", policy, policy, head, None, {})
    accuracy, nats = _against_truth(model, *task.held_out)
    return Measure(accuracy, nats, _against_truth(model, *task.shifted)[0])


def _weighted(ranking: Ranking, careless: float) -> Ranking:
    return replace(ranking, weight=careless) if ranking.annotator == "careless" else ranking


def _groups(rankings: list[Ranking], policy: Policy) -> list[Group]:
    config = RunConfig("unused", max_prompt_tokens=64, max_completion_tokens=64)
    return [group_of(ranking, policy, config) for ranking in rankings]


def _margin(config: RewardConfig, pairs: Pairs, rankings: list[Ranking], votes: Votes) -> torch.Tensor | None:
    if config.margin == "strength":
        return strength_margin(pairs, rankings)
    return voting_margin(votes) if config.margin == "votes" else None


def _against_truth(model: RewardModel, rankings: list[Ranking], worths: np.ndarray) -> tuple[float, float]:
    """Share of all pairs in their true order, and mean KL of the planted chances from sigma(score difference)."""
    scores = model.score_groups(_groups(rankings, model.trunk)).double().view(-1, SIZE)
    truth = torch.from_numpy(worths).view(-1, SIZE)
    a, b = torch.triu_indices(SIZE, SIZE, offset=1)
    delta, true = scores[:, a] - scores[:, b], truth[:, a] - truth[:, b]
    accuracy = float((delta * true > 0).double().mean())
    return accuracy, float((_cost(true, delta) - _cost(true, true)).mean())


def _cost(true: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the chance sigma(true) with sigma(delta)."""
    return softplus(-delta) + (1 - true.sigmoid()) * delta


def _columns(found: list[Measure], usual: list[Measure]) -> list[str]:
    """Each measure's mean ± standard error, and its mean difference to the baseline of the same seed."""
    columns = []
    for own, theirs in zip(zip(*found, strict=True), zip(*usual, strict=True), strict=True):
        gaps = [a - b for a, b in zip(own, theirs, strict=True)]
        columns += [f"{statistics.mean(own):.3f} ± {_error(own):.3f}"]
        columns += [f"{statistics.mean(gaps):+.3f} ± {_error(gaps):.3f}" if found is not usual else ""]
    return columns


def _error(values: Any) -> float:
    """Standard error of the mean; 0 for one value."""
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0


if __name__ == "__main__":
    main()
