"""What a reward model is worth, measured on prompts it never saw, and said in one sentence.

Accuracy with an interval that knows of prompts (pairs of one are not independent), Kendall's tau, calibration of the
Bradley-Terry probabilities, the rival that only counts tokens, the pull of length, slices, near-duplicates between the
splits, and the pairs that models which never saw them vote against.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit
from scipy.stats import kendalltau

from trainer.rlhf.data import Ranking
from trainer.rlhf.intervals import share_of_trials
from trainer.rlhf.pairs import Pairs, pairs_of

BINS = 10
CHANCE_DRAWS = 50


class Judged(NamedTuple):
    """Rankings with the score and the whole length (tokens) of every completion, in their order."""

    rankings: Sequence[Ranking]
    scores: np.ndarray
    lengths: np.ndarray


class Interval(NamedTuple):
    """A share with its 95 % interval."""

    value: float
    low: float
    high: float
    pairs: int


class Calibration(NamedTuple):
    """How far probabilities sigma(delta) can be believed; `temperature` is the one that fits the held-out pairs.

    `ece_by_chance` is what outcomes drawn from these very probabilities give: of few pairs far from 0.
    """

    ece: float
    ece_by_chance: float
    brier: float
    nll: float
    temperature: float


def build_report(judged: Judged, *, length_sign: int, seed: int) -> dict[str, Any]:
    """The report's numbers and its verdict; `length_sign` +1 if the longer completion won in training, else -1.

    Without a held-out pair, where every ranking is all ties say, the measures are None.
    """
    pairs = pairs_of(judged.rankings, ties="drop")
    if not len(pairs.winner):
        nothing = dict.fromkeys(("accuracy", "length_baseline", "lead", "kendall_tau"))
        return {
            "verdict": "There is no held-out pair to measure on: rank more prompts.",
            "beats_length_baseline": False,
            **nothing,
        }
    deltas = _deltas(judged.scores, pairs)
    length_deltas = length_sign * _deltas(judged.lengths, pairs)
    prompts = pairs.prompt.numpy()
    right, by_length = correctness(deltas), correctness(length_deltas)
    accuracy, baseline = (accuracy_interval(each, prompts) for each in (right, by_length))
    lead = lead_interval(right, by_length, prompts)
    return {
        "verdict": verdict(accuracy, baseline, lead),
        "beats_length_baseline": accuracy.value > baseline.value,
        "accuracy": accuracy._asdict(),
        "length_baseline": baseline._asdict(),
        "lead": lead._asdict(),
        "kendall_tau": mean_kendall_tau(judged),
        "calibration": calibration(deltas, seed=seed)._asdict(),
        "length_correlation": correlation(judged.scores, judged.lengths),
        "slices": slices(judged, pairs, deltas),
    }


def verdict(accuracy: Interval, baseline: Interval, lead: Interval) -> str:
    """One sentence for people: what the model gets right, and whether counting tokens would do as well."""
    right = f"Right on {accuracy.value:.0%} of {accuracy.pairs} held-out pairs (95 % interval {_range(accuracy)})"
    if accuracy.low <= 0.5:
        right += ", which chance could give too"
    rival = f"choosing by length alone is right on {baseline.value:.0%}"
    if lead.value <= 0:
        return f"{right}; {rival}: this reward model does not beat the length-only baseline. Do not train on it yet."
    if lead.low <= 0:
        return (
            f"{right}; {rival}: better than length, but by less than {lead.pairs} pairs can prove. Rank more prompts."
        )
    return f"{right}; {rival}: better than length by {100 * lead.value:.0f} points ({_range(lead, '')})."


def leak_warning(near_duplicates: Mapping[str, Any]) -> str:
    """What the verdict adds where memory may pass for judgement; nothing where it cannot."""
    count, prompts = near_duplicates["count"], near_duplicates["of"]
    if not count:
        return ""
    near = f" Held-out prompts that are nearly training prompts: {count} of {prompts}."
    return f"{near} What it gets right there may be memory."


def _range(interval: Interval, unit: str = " %") -> str:
    return f"{100 * interval.low:.0f} to {100 * interval.high:.0f}{unit}"


def _deltas(values: np.ndarray, pairs: Pairs) -> np.ndarray:
    return values[pairs.winner.numpy()] - values[pairs.loser.numpy()]


def correctness(deltas: np.ndarray) -> np.ndarray:
    """1 where the preferred completion has the higher score, a half where both have the same."""
    return (deltas > 0) + 0.5 * (deltas == 0)


def accuracy_interval(correct: np.ndarray, prompts: np.ndarray) -> Interval:
    """Mean over pairs of what is right of each, from 0 to 1."""
    return Interval(*share_of_trials(correct, prompts), len(correct))


def lead_interval(correct: np.ndarray, rival: np.ndarray, prompts: np.ndarray) -> Interval:
    """Mean over pairs of what is right beyond the rival's, from -1 to 1: an interval of (1 + lead) / 2."""
    share = share_of_trials((1 + correct - rival) / 2, prompts, are_binary=False)
    return Interval(*(2 * bound - 1 for bound in share), len(correct))


def mean_kendall_tau(judged: Judged) -> float:
    """Kendall's tau-b between an annotator's order and the scores', averaged over rankings with an order."""
    taus, start = [], 0
    for ranking in judged.rankings:
        scores = judged.scores[start : start + len(ranking.ranks)]
        start += len(ranking.ranks)
        if len(set(ranking.ranks)) > 1 and len(set(scores)) > 1:
            taus.append(kendalltau(-np.array(ranking.ranks), scores).statistic)
    return float(np.mean(taus)) if taus else 0.0


def oriented(deltas: np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Each pair turned round or not by a coin: winner-first pairs would make every outcome 1, and calibration void."""
    is_kept = np.random.default_rng(seed).random(len(deltas)) < 0.5
    return np.where(is_kept, deltas, -deltas), is_kept.astype(float)


def calibration(deltas: np.ndarray, *, seed: int) -> Calibration:
    """ECE over bins of equal mass, Brier score and NLL of sigma(delta), and the temperature of least NLL."""
    logits, outcome = oriented(deltas, seed=seed)
    chance = expit(logits)
    fit = minimize_scalar(lambda log_t: -log_expit(deltas / np.exp(log_t)).mean(), bounds=(-5, 5), method="bounded")
    generator = np.random.default_rng(seed)
    drawn = [expected_error(chance, generator.random(len(chance)) < chance) for _ in range(CHANCE_DRAWS)]
    return Calibration(
        ece=expected_error(chance, outcome),
        ece_by_chance=float(np.mean(drawn)),
        brier=float(np.mean((chance - outcome) ** 2)),
        nll=float(-log_expit(deltas).mean()),
        temperature=float(np.exp(fit.x)),
    )


def expected_error(chance: np.ndarray, outcome: np.ndarray) -> float:
    """Mean over bins of equal mass of |predicted - observed|."""
    return float(sum(mass * abs(mean - share) for mass, mean, share in reliability(chance, outcome)))


def reliability(chance: np.ndarray, outcome: np.ndarray) -> list[tuple[float, float, float]]:
    """Bins of equal mass: share of the pairs, mean predicted probability, share of outcomes."""
    order = np.argsort(chance, kind="stable")
    return [
        (len(part) / len(chance), float(chance[part].mean()), float(outcome[part].mean()))
        for part in np.array_split(order, min(BINS, len(chance)))
    ]


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's, 0 where one of the two does not vary."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def length_sign(pairs: Pairs, lengths: np.ndarray) -> int:
    """Which way length pointed in training: +1 if the longer completion won more of the decided pairs, else -1."""
    return 1 if np.sign(_deltas(lengths, pairs.where(pairs.target != 0.5))).sum() >= 0 else -1


def slices(judged: Judged, pairs: Pairs, deltas: np.ndarray) -> dict[str, dict[str, dict[str, float]]]:
    """Accuracy and number of pairs by annotator, language, checkpoint of the winner, and gap of lengths."""
    gaps = np.abs(_deltas(judged.lengths, pairs))
    gap_names = np.searchsorted(np.quantile(gaps, (1 / 3, 2 / 3)), gaps, side="left")
    right = correctness(deltas)
    ends = np.searchsorted(pairs.ranking.numpy(), np.arange(len(judged.rankings)), "right").tolist()
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(lambda: [0.0, 0]))
    first_completion = first_pair = 0
    for ranking, end in zip(judged.rankings, ends, strict=True):
        for place in range(first_pair, end):
            winner = int(pairs.winner[place]) - first_completion
            keys = {
                "annotator": ranking.annotator,
                "language": ranking.language,
                "checkpoint": ranking.checkpoints and ranking.checkpoints[winner],
                "length_gap": ("small", "middle", "large")[gap_names[place]],
            }
            for name, key in keys.items():
                if key is not None:
                    found[name][key][0] += float(right[place])
                    found[name][key][1] += 1
        first_completion, first_pair = first_completion + len(ranking.ranks), end
    return {
        name: {key: {"accuracy": total / count, "pairs": count} for key, (total, count) in sorted(parts.items())}
        for name, parts in found.items()
    }
