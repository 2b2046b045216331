"""Pools as managers change them: settings, guidelines, pause, members, prompts."""

from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotate.errors import Refused
from annotate.models import Comparison, GuidelineVersion, PoolMember, Prompt, PromptPool, User
from annotate.roles import MAY_ANNOTATE, has_role
from annotate.services.audit import events_of, record


class NoAnnotator(Refused):
    code = "no_annotator"
    sentence = _("This person may not annotate. Give them the role of an annotator or a manager first.")


@transaction.atomic
def make_pool(*, by: User | None, guidelines: str = "", **fields) -> PromptPool:
    """A new pool, with its first guidelines if there are any. Raises ValidationError, by field."""
    pool = PromptPool(**fields)
    pool.full_clean()
    pool.save()
    record(by, "make.pool", pool, **{name: plain(value) for name, value in fields.items()})
    if guidelines.strip():
        write_guidelines(pool=pool, text=guidelines, by=by)
    return pool


@transaction.atomic
def change_pool(*, pool: PromptPool, by: User | None, **fields) -> PromptPool:
    """Change settings. They hold for comparisons made from now on. Raises ValidationError, by field.

    A changed number of annotators also opens or closes places of fresh comparisons that wait.
    """
    pool = PromptPool.objects.select_for_update().get(pk=pool.pk)
    changes = {}
    for name, value in fields.items():
        if getattr(pool, name) != value:
            changes[name] = [plain(getattr(pool, name)), plain(value)]
            setattr(pool, name, value)
    pool.full_clean()
    pool.save()
    if "overlap" in changes:
        waiting = pool.comparisons.filter(kind=Comparison.Kind.FRESH, taken=0, is_withdrawn=False)
        waiting.update(overlap=pool.overlap)
    if changes:
        record(by, "change.pool", pool, **changes)
    return pool


def earlier_values(pool: PromptPool, setting: str, since: datetime) -> list[Any]:
    """What a setting was at some time since then and is no more, as `change_pool` noted it."""
    changes = events_of(pool, "change.pool").filter(created_at__gte=since, detail__has_key=setting)
    return [event.detail[setting][0] for event in changes]


def plain(value):
    """A field's value as JSON knows it: a row by its name."""
    return value if isinstance(value, (str, int, float, bool, list, dict, type(None))) else str(value)


@transaction.atomic
def write_guidelines(*, pool: PromptPool, text: str, by: User | None) -> GuidelineVersion:
    """A new version of the guidelines; the newest one again where the text is the same."""
    PromptPool.objects.select_for_update().get(pk=pool.pk)
    newest = pool.guidelines
    text = text.replace("\r\n", "\n").strip()
    if newest is not None and newest.text == text:
        return newest
    version = GuidelineVersion.objects.create(
        pool=pool, version=newest.version + 1 if newest else 1, text=text, created_by=by
    )
    record(by, "write.guidelines", pool, version=version.version)
    return version


@transaction.atomic
def pause_pool(*, pool: PromptPool, reason: str, by: User | None) -> None:
    """Lend nothing more from this pool. Comparisons that are lent may still be answered."""
    pool.status, pool.status_reason = PromptPool.Status.PAUSED, reason.strip()
    pool.save(update_fields=["status", "status_reason"])
    record(by, "pause.pool", pool, reason=pool.status_reason)


@transaction.atomic
def resume_pool(*, pool: PromptPool, by: User | None) -> None:
    pool.status, pool.status_reason = PromptPool.Status.ACTIVE, ""
    pool.save(update_fields=["status", "status_reason"])
    record(by, "resume.pool", pool)


@transaction.atomic
def add_member(*, pool: PromptPool, user: User, by: User | None) -> PoolMember:
    """Let `user` into the pool; once is enough. Raises NoAnnotator."""
    if not has_role(user, MAY_ANNOTATE):
        raise NoAnnotator
    member, is_new = PoolMember.objects.get_or_create(pool=pool, user=user)
    if is_new:
        record(by, "add.member", pool, person=str(user))
    return member


@transaction.atomic
def let_through(*, member: PoolMember, by: User | None) -> None:
    """Have somebody rank for good without passing the pool's training: who failed has nothing left to pass it with."""
    if member.qualified_at is None:
        member.qualified_at = timezone.now()
        member.save(update_fields=["qualified_at"])
        record(by, "let-through.member", member.pool, person=str(member.user))


@transaction.atomic
def remove_member(*, member: PoolMember, by: User | None) -> None:
    """Take somebody's place in the pool away, and with it what they passed in training. Their answers stay."""
    member.delete()
    record(by, "remove.member", member.pool, person=str(member.user))


@transaction.atomic
def retire_prompt(*, prompt: Prompt, by: User | None) -> None:
    """Ask this prompt no more: no new comparisons, and none of those that nobody has taken yet."""
    prompt.retired_at = prompt.retired_at or timezone.now()
    prompt.save(update_fields=["retired_at"])
    prompt.comparisons.filter(kind=Comparison.Kind.FRESH, taken=0).update(is_withdrawn=True)
    record(by, "retire.prompt", prompt, pool=prompt.pool.name)


@transaction.atomic
def restore_prompt(*, prompt: Prompt, by: User | None) -> None:
    """Ask a retired prompt again, in fresh comparisons."""
    prompt.retired_at = None
    prompt.save(update_fields=["retired_at"])
    record(by, "restore.prompt", prompt, pool=prompt.pool.name)
