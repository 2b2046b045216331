"""The cast and the data that API, export and concurrency tests share.

Alice ranks, Bob ranks too, Maria manages, Ravi researches, Sue is the superuser; Olaf has an account and no role.
"""

from datetime import timedelta

from django.contrib.auth.models import Group
from django.utils import timezone

from annotate.models import (
    Assignment,
    Comparison,
    Completion,
    GuidelineVersion,
    Policy,
    PolicyCheckpoint,
    Prompt,
    PromptPool,
    Ranking,
    User,
)
from annotate.roles import Role


def make_person(name: str, role: str | None = None, **fields) -> User:
    """An account that nobody can sign in to with a password: hashing one takes longer than a test should."""
    person = User.objects.create_user(username=name, email=f"{name}@example.org", **fields)
    if role:
        person.groups.add(Group.objects.get_or_create(name=role)[0])
    return person


def make_cast() -> dict[str, User]:
    return {
        "alice": make_person("alice", Role.ANNOTATOR),
        "bob": make_person("bob", Role.ANNOTATOR),
        "maria": make_person("maria", Role.MANAGER),
        "ravi": make_person("ravi", Role.RESEARCHER),
        "sue": make_person("sue", is_superuser=True),
        "olaf": make_person("olaf"),
    }


def make_policy(name: str = "tiny") -> Policy:
    policy = Policy.objects.create(name=name, base_model="/nowhere")
    PolicyCheckpoint.objects.create(policy=policy, number=0, status=PolicyCheckpoint.Status.SERVING)
    return policy


def make_pool(policy: Policy, name: str = "pool", **fields) -> PromptPool:
    pool = PromptPool.objects.create(policy=policy, name=name, **fields)
    GuidelineVersion.objects.create(pool=pool, version=1, text="Be kind.")
    return pool


def make_prompt(pool: PromptPool, content: str, **fields) -> Prompt:
    return Prompt.objects.create(pool=pool, messages=[{"role": "user", "content": content}], **fields)


def make_comparison(prompt: Prompt, texts: list[str], **fields) -> Comparison:
    pool = prompt.pool
    comparison = Comparison.objects.create(pool=pool, prompt=prompt, **{"overlap": pool.overlap, **fields})
    checkpoint = pool.policy.serving
    Completion.objects.bulk_create(
        Completion(comparison=comparison, checkpoint=checkpoint, text=text) for text in texts
    )
    return comparison


def make_ranking(comparison: Comparison, annotator: User, ranks: list[int], **fields) -> Ranking:
    """An answer of `annotator`; `ranks` follow the completions' ids, which were shown in the reverse order."""
    completions = list(comparison.completions.values_list("id", flat=True))
    now = timezone.now()
    assignment = Assignment.objects.create(
        comparison=comparison,
        annotator=annotator,
        status=Assignment.Status.ANSWERED,
        order=completions[::-1],
        guideline_version=comparison.pool.guidelines,
        leased_at=now,
        expires_at=now + timedelta(minutes=30),
        finished_at=now,
    )
    Comparison.objects.filter(pk=comparison.pk).update(
        taken=comparison.assignments.count(), answered=comparison.assignments.count()
    )
    return Ranking.objects.create(
        assignment=assignment,
        pool=comparison.pool,
        annotator=annotator,
        ranks={str(pk): rank for pk, rank in zip(completions, ranks, strict=True)},
        idempotency_key=f"key-{assignment.pk}",
        **fields,
    )
