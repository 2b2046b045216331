"""One's own work, and what came of it. Reads only.

Agreement, gold and median time look at the newest answers alone (NEWEST): how one works now.
"""

from datetime import timedelta
from statistics import mean, median
from typing import Any

from django.db.models import Count, Exists, OuterRef, QuerySet, Sum
from django.utils import timezone

from annotate.human_wins import human_win_rate
from annotate.models import Comparison, Policy, PolicyCheckpoint, PreferenceSnapshot, Ranking, User
from annotate.ranking import kendall_tau_b
from annotate.selectors import new_rankings, workable_pools
from annotate.services.rankings import is_right

NEWEST = 500
LEAST_PROMPTS = 20  # fewer say nothing


def own_numbers(annotator: User) -> dict[str, Any]:
    """Counts and seconds; `agreement` and `gold_percent` are None where there is nothing to compare with."""
    revisions = Ranking.objects.filter(annotator=annotator)  # with those of training, which took time as well
    answers = revisions.filter(is_current=True, counts=True)
    first = revisions.filter(revision=1, counts=True)  # a correction takes a moment, and is no answer more
    times = list(first.exclude(active_ms=None).order_by("-id").values_list("active_ms", flat=True)[:NEWEST])
    taus = agreement_with_others(annotator)
    gold = gold_results(annotator)
    return {
        "count": answers.count(),
        "count_today": first.filter(created_at__gte=timezone.localtime() - timedelta(hours=24)).count(),
        "active_hours": (revisions.aggregate(total=Sum("active_ms"))["total"] or 0) / 3_600_000,
        "median_seconds": median(times) / 1000 if times else None,
        "agreement": mean(taus) if taus else None,
        "agreement_pairs": len(taus),
        "gold_percent": 100 * mean(gold) if gold else None,
        "gold_count": len(gold),
        "corrections": revisions.filter(revision__gt=1).count(),
    }


def agreement_with_others(annotator: User) -> list[float]:
    """τ-b with each other person's ranking of a fresh comparison; second opinions left out, as in `progress.py`."""
    own = dict(
        Ranking.objects.current()
        .filter(annotator=annotator, assignment__comparison__answered__gte=2)
        .filter(assignment__comparison__kind=Comparison.Kind.FRESH, assignment__comparison__asked_again_at=None)
        .order_by("-id")
        .values_list("assignment__comparison_id", "ranks")[:NEWEST]
    )
    others = (
        Ranking.objects.current()
        .filter(assignment__comparison__in=list(own))
        .exclude(annotator=annotator)
        .values_list("assignment__comparison_id", "ranks")
    )
    taus = (kendall_tau_b(own[comparison], ranks) for comparison, ranks in others)
    return [tau for tau in taus if tau is not None]


def gold_results(annotator: User) -> list[bool]:
    """Whether each gold comparison was answered right, at the first attempt."""
    answers = Ranking.objects.filter(annotator=annotator, revision=1, assignment__comparison__kind=Comparison.Kind.GOLD)
    return [is_right(answer) for answer in answers.select_related("assignment__comparison").order_by("-id")[:NEWEST]]


def own_answers(annotator: User) -> QuerySet[Ranking]:
    """Newest first, each with its prompt and whether a snapshot has used it (`is_frozen`)."""
    used = PreferenceSnapshot.rankings.through.objects.filter(ranking=OuterRef("pk"))
    return (
        Ranking.objects.filter(annotator=annotator, is_current=True)
        .exclude(assignment__comparison__kind=Comparison.Kind.TRAINING)
        .select_related("assignment__comparison__prompt", "pool")
        .annotate(is_frozen=Exists(used))
        .order_by("-id")
    )


def answered_assignment(annotator: User, assignment_id: int) -> Ranking | None:
    """The annotator's current answer to one assignment, with all that its page shows."""
    return (
        own_answers(annotator)
        .select_related("assignment__comparison__pool", "assignment__guideline_version")
        .filter(assignment=assignment_id)
        .first()
    )


def changes_by_policy(annotator: User) -> list[dict[str, Any]]:
    """For each policy one works for: its serving checkpoint, what that was measured at, and whose answers went in.

    `accuracy` and `win_rate`, as the run's evaluation measured them, in percent: {"percent", "low_percent",
    "high_percent"}, or None. It is the run's own reward model that says which text of two wins. `people` is how often
    annotators, who saw both and not whose they were, preferred its text to its parent's; the same, with the `rankings`
    and `prompts` it rests on, and None below LEAST_PROMPTS. `gathered` is how many rankings of everybody's there are
    for the next training; None where it begins by hand, or is due.
    """
    used = dict(
        Ranking.objects.filter(annotator=annotator, snapshots__isnull=False)
        .values_list("pool__policy")
        .annotate(n=Count("id", distinct=True))
        .order_by()
    )
    policies = {pool.policy_id for pool in workable_pools(annotator)} | set(used)
    serving = PolicyCheckpoint.objects.filter(policy__in=policies, status=PolicyCheckpoint.Status.SERVING)
    return [
        {
            "checkpoint": checkpoint,
            "is_base": checkpoint.number == 0,
            "accuracy": in_percent(checkpoint.metrics.get("reward", {}).get("accuracy")),
            "win_rate": in_percent(checkpoint.metrics.get("evaluation", {}).get("win_rate")),
            "people": people_on(checkpoint, without=annotator),
            "used": used.get(checkpoint.policy_id, 0),
            "gathered": gathered(checkpoint.policy),
        }
        for checkpoint in serving.select_related("policy", "parent__policy").order_by("policy__name")
    ]


def gathered(policy: Policy) -> int | None:
    count = new_rankings(policy)[: policy.retrain_after].count() if policy.retrain_after else 0
    return count if count < policy.retrain_after else None


def people_on(checkpoint: PolicyCheckpoint, *, without: User) -> dict[str, int] | None:
    """What others preferred: one's own answers would tell, by what each changes, which of its texts was whose."""
    won = human_win_rate(checkpoint, checkpoint.parent, without=without) if checkpoint.parent else None
    if won is None or won.prompts < LEAST_PROMPTS:
        return None
    return in_percent(won._asdict()) | {"rankings": won.rankings, "prompts": won.prompts}


def in_percent(share: dict[str, float] | None) -> dict[str, int] | None:
    if not share or share.get("value") is None:
        return None
    names = {"value": "percent", "low": "low_percent", "high": "high_percent"}
    return {name: round(100 * share[key]) for key, name in names.items() if share.get(key) is not None}
