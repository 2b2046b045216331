"""Reads. Nouns; each is a query, or a small composition of queries."""

from django.db.models import Count, F, Prefetch, Q, QuerySet

from annotate.models import Assignment, Comparison, Completion, PromptPool, Ranking, User


def workable_pools(annotator: User, pool_id: int | None = None) -> QuerySet[PromptPool]:
    """Active pools in which this person may rank."""
    pools = PromptPool.objects.filter(status=PromptPool.Status.ACTIVE)
    pools = pools.filter(Q(members_only=False) | Q(memberships__user=annotator)).distinct()
    return pools.filter(pk=pool_id) if pool_id is not None else pools


def is_qualified(annotator: User, pool: PromptPool) -> bool:
    return pool.memberships.filter(user=annotator).exclude(qualified_at=None).exists()


def assignment_with_texts(assignment_id: int) -> Assignment:
    """An assignment with all that its page shows, in two queries."""
    return (
        Assignment.objects.select_related("comparison__prompt", "comparison__pool", "guideline_version")
        .prefetch_related(Prefetch("comparison__completions", queryset=Completion.objects.defer("token_ids")))
        .defer("guideline_version__text")
        .get(pk=assignment_id)
    )


def completions_as_shown(assignment: Assignment) -> list[Completion]:
    by_id = {completion.pk: completion for completion in assignment.comparison.completions.all()}
    return [by_id[completion_id] for completion_id in assignment.order]


def open_comparisons() -> QuerySet[Comparison]:
    """Fresh comparisons with a place left."""
    return Comparison.objects.filter(kind=Comparison.Kind.FRESH, is_withdrawn=False, taken__lt=F("overlap"))


def buffer_progress() -> tuple[int, int]:
    """How many comparisons are ready for annotators, and how many the active pools want ready."""
    pools = PromptPool.objects.filter(status=PromptPool.Status.ACTIVE)
    ready_by_pool = dict(open_comparisons().filter(pool__in=pools).values_list("pool").annotate(Count("id")).order_by())
    wanted = {pool.pk: pool.buffer_size for pool in pools}
    return sum(min(ready_by_pool.get(pk, 0), size) for pk, size in wanted.items()), sum(wanted.values())


def rankings_of_policy(policy) -> QuerySet[Ranking]:
    """Every answer that counts, of the pools of one policy."""
    return Ranking.objects.current().filter(pool__policy=policy)
