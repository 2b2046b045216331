"""How far the work is, and how well people agree. Reads only.

Agreement is Kendall's τ-b between two annotators' rankings of one comparison, averaged over all such pairs; where one
of the two tied everything there is no order to compare, and the pair is left out.
"""

from collections import defaultdict
from collections.abc import Iterable
from itertools import combinations
from statistics import mean
from typing import NamedTuple

from django.db.models import Aggregate, Count, F, FloatField, Func, Max, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce

from annotate.labels import NOT_RANKABLE_REASONS, SKIP_REASONS
from annotate.models import Assignment, Comparison, Prompt, PromptPool, Ranking, User
from annotate.ranking import kendall_tau_b
from annotate.roles import Role
from annotate.selectors import open_comparisons
from annotate.services.rankings import is_right

# Agreement, gold accuracy and median seconds look at the newest only: what counts is how people work now.
NEWEST_COMPARISONS = 2000
NEWEST_ANSWERS = 4000
NEWEST_TIMES = 100_000  # rankings, where it is asked of everybody: to sort a million times takes PostgreSQL seconds
MOST_REASONS = 20


class Agreement(NamedTuple):
    """Mean τ-b over `pairs` of rankings; None where nobody ranked what somebody else ranked."""

    tau: float | None
    pairs: int


def pools_with_counts() -> QuerySet[PromptPool]:
    """Every pool with how many prompts, ready comparisons and rankings it has."""

    def count_of(rows: QuerySet) -> Coalesce:
        counted = rows.filter(pool=OuterRef("pk")).order_by().values("pool").annotate(n=Count("*")).values("n")
        return Coalesce(Subquery(counted), 0)

    return PromptPool.objects.select_related("policy").annotate(
        prompt_count=count_of(Prompt.objects.filter(retired_at=None)),
        ready_count=count_of(open_comparisons()),
        ranking_count=count_of(Ranking.objects.current()),
    )


def people_at_work(pool: PromptPool) -> list[dict]:
    """Who ranked in this pool: person, answers, when last."""
    return list(
        Ranking.objects.current()
        .filter(pool=pool)
        .values("annotator_id", "annotator__email")
        .annotate(answers=Count("id"), last=Max("created_at"))
        .order_by("-answers")
    )


def skips_of(pool: PromptPool) -> QuerySet[Assignment]:
    return Assignment.objects.filter(comparison__pool=pool, status=Assignment.Status.SKIPPED)


def why_skipped(pool: PromptPool) -> list[tuple[str, str, int]]:
    """(reason, its words, how often), the most frequent and newest first; at most MOST_REASONS."""
    counted = skips_of(pool).values_list("skip_reason").annotate(n=Count("id"), last=Max("finished_at"))
    return [(*reason_in_words(reason), n) for reason, n, _last in counted.order_by("-n", "-last")[:MOST_REASONS]]


def reason_in_words(reason: str) -> tuple[str, str]:
    """What the page writes, `skip: other · in words`, as its buttons say it; what a program wrote, as it is."""
    code, _dot, words = reason.partition(" · ")
    kind, _colon, name = code.partition(": ")
    label = {"skip": SKIP_REASONS, "not rankable": NOT_RANKABLE_REASONS}.get(kind, {}).get(name)
    return (str(label), words) if label else ("", reason)


def agreement(pool: PromptPool | None = None) -> Agreement:
    """Of one pool, or of all."""
    taus = [tau for _one, _other, tau in agreeing_pairs(pool)]
    return Agreement(mean(taus) if taus else None, len(taus))


def agreement_by_annotator() -> dict[int, Agreement]:
    """How far each person agrees with the others, over all pools."""
    taus = defaultdict(list)
    for one, other, tau in agreeing_pairs():
        taus[one].append(tau)
        taus[other].append(tau)
    return {annotator: Agreement(mean(found), len(found)) for annotator, found in taus.items()}


def agreeing_pairs(pool: PromptPool | None = None) -> Iterable[tuple[int, int, float]]:
    """(annotator, annotator, τ-b) of every two rankings of one fresh comparison, over the newest comparisons.

    Gold has no end of annotators, and what they agree on there is the gold: it is left out. So are second opinions,
    which are asked for where an answer looked wrong.
    """
    comparisons = Comparison.objects.filter(kind=Comparison.Kind.FRESH, answered__gte=2, asked_again_at=None)
    if pool is not None:
        comparisons = comparisons.filter(pool=pool)
    newest = list(comparisons.order_by("-id").values_list("id", flat=True)[:NEWEST_COMPARISONS])
    answers = Ranking.objects.current().filter(assignment__comparison__in=newest)
    by_comparison = defaultdict(list)
    for comparison, annotator, ranks in answers.values_list("assignment__comparison_id", "annotator_id", "ranks"):
        by_comparison[comparison].append((annotator, ranks))
    for found in by_comparison.values():
        for (one, ranks), (other, other_ranks) in combinations(found, 2):
            tau = kendall_tau_b(ranks, other_ranks)
            if tau is not None:
                yield one, other, tau


def gold_answers_by_annotator() -> dict[int, tuple[int, int]]:
    """Per person: right gold answers, gold answers, at the first attempt."""
    answers = (
        Ranking.objects.filter(revision=1, assignment__comparison__kind=Comparison.Kind.GOLD)
        .select_related("assignment__comparison")
        .order_by("-id")[:NEWEST_ANSWERS]
    )
    right, seen = defaultdict(int), defaultdict(int)
    for answer in answers:
        seen[answer.annotator_id] += 1
        right[answer.annotator_id] += is_right(answer)
    return {annotator: (right[annotator], seen[annotator]) for annotator in seen}


def people_with_numbers() -> list[User]:
    """Every account with its roles and how its person works: answers, median seconds, agreement, gold accuracy."""
    return with_numbers(list(User.objects.all()))


def person_with_numbers(person: User) -> User:
    return with_numbers([person])[0]


def with_numbers(people: list[User]) -> list[User]:
    """Put `role_names`, `answers`, `median_seconds`, `agreement`, `gold_seen` and `gold_accuracy` on each person."""
    roles = defaultdict(list)
    with_groups = User.objects.filter(pk__in=[person.pk for person in people], groups__isnull=False)
    for pk, name in with_groups.values_list("pk", "groups__name"):
        roles[pk].append(Role(name).label if name in Role.values else name)
    current = Ranking.objects.filter(is_current=True, counts=True, annotator__in=people)
    answers = dict(current.values_list("annotator").annotate(n=Count("id")).order_by())
    seconds, agreements, gold = median_seconds(people), agreement_by_annotator(), gold_answers_by_annotator()
    for person in people:
        person.role_names = roles[person.pk]
        person.answers = answers.get(person.pk, 0)
        person.median_seconds = seconds.get(person.pk)
        person.agreement = agreements.get(person.pk, Agreement(None, 0))
        right, seen = gold.get(person.pk, (0, 0))
        person.gold_seen, person.gold_accuracy = seen, right / seen if seen else None
    return sorted(people, key=lambda person: (not person.is_active, person.email))


def pools_of(person: User) -> list[dict]:
    """Where somebody ranked: pool, answers, when last."""
    answers = Ranking.objects.filter(annotator=person, is_current=True, counts=True).values("pool_id", "pool__name")
    return list(answers.annotate(answers=Count("id"), last=Max("created_at")).order_by("-answers"))


class Median(Aggregate):
    template = "percentile_cont(0.5) WITHIN GROUP (ORDER BY %(expressions)s)"
    output_field = FloatField()


def median_seconds(people: list[User]) -> dict[int, float]:
    """Per person: median active seconds of an answer, without what its corrections took."""
    first = Ranking.objects.filter(revision=1, counts=True, annotator__in=people)
    if len(people) > 1:
        newest = Ranking.objects.aggregate(newest=Max("id"))["newest"] or 0
        first = first.filter(pk__gt=newest - NEWEST_TIMES)
    times = first.exclude(active_ms=None).values_list("annotator")
    return {pk: median / 1000 for pk, median in times.annotate(median=Median("active_ms")).order_by()}


def tags_of(pool: PromptPool) -> list[str]:
    """Every tag of the pool's prompts, in order."""
    tags = Prompt.objects.filter(pool=pool).annotate(tag=Func(F("tags"), function="unnest")).order_by("tag")
    return list(tags.values_list("tag", flat=True).distinct())
