"""Reads about runs."""

from django.db.models import Max, QuerySet

from annotate.models import Policy, PolicyCheckpoint, PreferenceSnapshot, Ranking
from annotate.selectors import rankings_of_policy


def new_rankings(policy: Policy) -> QuerySet[Ranking]:
    """Answers that came after the last turn of the loop froze its snapshot. A correction counts as new."""
    newest = PreferenceSnapshot.objects.filter(policy=policy, runs__isnull=False).aggregate(Max("newest_ranking_id"))
    return rankings_of_policy(policy).filter(pk__gt=newest["newest_ranking_id__max"] or 0)


def incumbent(policy: Policy) -> PolicyCheckpoint | None:
    """The checkpoint to measure the serving one against: its parent, which it replaced."""
    return policy.serving.parent
