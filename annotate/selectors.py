"""Reads. Nouns; each is a query, or a small composition of queries."""

from typing import Any

from django.db.models import Count, Exists, F, Max, Model, OuterRef, QuerySet
from django.db.models.expressions import RawSQL

from annotate.models import (
    Assignment,
    Comparison,
    Completion,
    Demonstration,
    Policy,
    PreferenceSnapshot,
    PromptPool,
    Ranking,
    User,
)

WORKABLE = """
SELECT p.id FROM annotate_promptpool p
WHERE p.status = 'active' AND (NOT p.members_only OR EXISTS (
    SELECT FROM annotate_poolmember m WHERE m.pool_id = p.id AND m.user_id = %s))
"""
POOLS_TO_LEASE_FROM = f"""
SELECT pool.*, EXISTS (
    SELECT FROM annotate_poolmember q
    WHERE q.pool_id = pool.id AND q.user_id = %s AND q.qualified_at IS NOT NULL) AS is_qualified
FROM annotate_promptpool pool WHERE pool.id IN ({WORKABLE})
"""  # noqa: S608 both parts stand here
COMPLETIONS = """
SELECT id, comparison_id, text, finish_reason, names_its_model FROM annotate_completion WHERE comparison_id = %s
"""


def row(model: type[Model], pk: int) -> Any:
    """One row by its number, in SQL as it stands: building the same from a queryset costs more than all the rest of it.

    For the two requests that every ranking takes. Raises IndexError where there is no such row.
    """
    return model._default_manager.raw(f"SELECT * FROM {model._meta.db_table} WHERE id = %s", [pk])[0]  # noqa: S608


def workable_pools(annotator: User, pool_id: int | None = None) -> QuerySet[PromptPool]:
    """Active pools in which this person may rank."""
    pools = PromptPool.objects.filter(pk__in=RawSQL(WORKABLE, [annotator.pk]))  # noqa: S611 no value is in the SQL
    return pools.filter(pk=pool_id) if pool_id is not None else pools


def pools_open_to_all() -> QuerySet[PromptPool]:
    """Active pools in which every annotator may rank: those that await whoever comes next."""
    return PromptPool.objects.filter(status=PromptPool.Status.ACTIVE, members_only=False)


def pools_to_lease_from(annotator: User, pool_id: int | None = None) -> list[PromptPool]:
    """The same with `is_qualified`: whether this person is through the pool's training."""
    pools = PromptPool.objects.raw(POOLS_TO_LEASE_FROM, [annotator.pk, annotator.pk])
    return [pool for pool in pools if pool_id in (None, pool.pk)]


def completions_as_shown(assignment: Assignment) -> list[Completion]:
    found = Completion.objects.raw(COMPLETIONS, [assignment.comparison_id])
    by_id = {completion.pk: completion for completion in found}
    return [by_id[completion_id] for completion_id in assignment.order]


def better_answer(ranking: Ranking) -> str:
    """What its annotator would have had the model say; empty where nothing was written."""
    return Demonstration.objects.filter(ranking=ranking).values_list("text", flat=True).first() or ""


def open_comparisons() -> QuerySet[Comparison]:
    """Fresh comparisons that wait for anybody at all: with a place left, and nobody has answered or skipped them.

    Those others may still have, but not who had them; if they counted, one who ranks alone would soon wait for ever.
    """
    fresh = Comparison.objects.filter(kind=Comparison.Kind.FRESH, is_withdrawn=False, asked_again_at=None)
    skips = Assignment.objects.filter(comparison=OuterRef("pk"), status=Assignment.Status.SKIPPED)
    return fresh.filter(~Exists(skips), taken__lt=F("overlap"), answered=0)


def buffer_progress() -> tuple[int, int]:
    """How many comparisons are ready for annotators, and how many the active pools want ready."""
    pools = PromptPool.objects.filter(status=PromptPool.Status.ACTIVE)
    ready_by_pool = dict(open_comparisons().filter(pool__in=pools).values_list("pool").annotate(Count("id")).order_by())
    wanted = {pool.pk: pool.buffer_size for pool in pools}
    return sum(min(ready_by_pool.get(pk, 0), size) for pk, size in wanted.items()), sum(wanted.values())


def rankings_of_policy(policy: Policy) -> QuerySet[Ranking]:
    """Every answer that counts, of the pools of one policy."""
    return Ranking.objects.current().filter(pool__policy=policy)


def new_rankings(policy: Policy) -> QuerySet[Ranking]:
    """Answers that came after the last turn of the loop froze its snapshot. A correction counts as new."""
    newest = PreferenceSnapshot.objects.filter(policy=policy, runs__isnull=False).aggregate(Max("newest_ranking_id"))
    return rankings_of_policy(policy).filter(pk__gt=newest["newest_ranking_id__max"] or 0)
