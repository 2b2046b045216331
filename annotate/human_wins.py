"""How often people prefer one checkpoint to another, in blind comparisons that hold completions of both.

A ranking's share is the mean over all its pairs (one completion of each): 1 where the candidate's is ranked higher, ½
for a tie. Rankings of one prompt are not independent, so each prompt counts once, with the mean of its rankings. The
interval is Wilson's (1927) at 95 %, with the number of prompts that would give the variance seen between them: prompts
whose rankings are split evenly say more than a coin toss each, and the interval is then narrower.

Gold and training comparisons are left out: their texts were chosen by somebody.
"""

from collections import defaultdict
from math import sqrt
from statistics import fmean, variance
from typing import NamedTuple

from django.db.models import QuerySet

from annotate.models import Comparison, Completion, PolicyCheckpoint, Ranking, User

Z = 1.959964  # 97.5 % of the standard normal lies below
# The newest rankings are enough for an interval of two points, and keep the page quick at a million.
MOST_RANKINGS = 5000


class WinRate(NamedTuple):
    """A share from 0 to 1 with its 95 % interval, and the prompts and rankings it rests on."""

    value: float
    low: float
    high: float
    prompts: int
    rankings: int


def human_win_rate(
    candidate: PolicyCheckpoint, other: PolicyCheckpoint, *, without: User | None = None
) -> WinRate | None:
    """The candidate's win rate over `other` as people judged it; None where nobody saw both side by side.

    Whoever is left out by `without` cannot tell from what one answer more changes whose its texts were.
    """
    found = list(
        rankings_of_both(candidate, other)
        .exclude(annotator=without)
        .order_by("-id")
        .values_list("ranks", "assignment__comparison_id", "assignment__comparison__prompt_id")[:MOST_RANKINGS]
    )
    if not found:
        return None
    authors = authors_by_comparison({comparison for _ranks, comparison, _prompt in found}, (candidate.pk, other.pk))
    shares = defaultdict(list)
    for ranks, comparison, prompt in found:
        shares[prompt].append(share_won(ranks, authors[comparison], candidate.pk, other.pk))
    value, low, high = wilson([fmean(of_prompt) for of_prompt in shares.values()])
    return WinRate(value, low, high, prompts=len(shares), rankings=len(found))


def rankings_of_both(candidate: PolicyCheckpoint, other: PolicyCheckpoint) -> QuerySet[Ranking]:
    comparisons = Comparison.objects.filter(kind=Comparison.Kind.FRESH, pool__policy=candidate.policy_id)
    for checkpoint in (candidate, other):
        comparisons = comparisons.filter(
            pk__in=Completion.objects.filter(checkpoint=checkpoint).values("comparison_id")
        )
    return Ranking.objects.current().filter(assignment__comparison__in=comparisons)


def authors_by_comparison(comparisons: set[int], checkpoints: tuple[int, int]) -> dict[int, list[tuple[str, int]]]:
    """Per comparison: id and checkpoint of each completion that one of the two wrote."""
    authors = defaultdict(list)
    completions = Completion.objects.filter(comparison__in=comparisons, checkpoint__in=checkpoints)
    for comparison, completion, checkpoint in completions.values_list("comparison_id", "id", "checkpoint_id"):
        authors[comparison].append((str(completion), checkpoint))
    return authors


def share_won(ranks: dict[str, int], authors: list[tuple[str, int]], candidate: int, other: int) -> float:
    """Over all pairs of one ranking. Rank 1 is best."""
    ours = [ranks[completion] for completion, checkpoint in authors if checkpoint == candidate]
    theirs = [ranks[completion] for completion, checkpoint in authors if checkpoint == other]
    return fmean((mine < its) + 0.5 * (mine == its) for mine in ours for its in theirs)


def wilson(shares: list[float]) -> tuple[float, float, float]:
    """Mean, low and high. The n of the formula: as many coin tosses as have the variance of the mean of `shares`."""
    mean, n = fmean(shares), float(len(shares))
    if len(shares) > 1 and 0 < mean < 1:
        spread = variance(shares)
        # An unseen spread is no proof of none: never more than four tosses for a prompt.
        n *= min(4.0, mean * (1 - mean) / spread) if spread else 1.0
    centre = (mean + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * sqrt(mean * (1 - mean) / n + Z**2 / (4 * n**2))
    return mean, max(0.0, centre - half), min(1.0, centre + half)
