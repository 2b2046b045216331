"""The audit log: every write by a person leaves a line, in the same transaction as the write."""

from django.db.models import Model, QuerySet

from annotate.models import AuditEvent, User


def record(actor: User | None, action: str, target: Model | str, **detail) -> AuditEvent:
    """Note that `actor` did `action` (verb.noun, such as pause.pool) to `target`. None: the system itself.

    `detail` is kept as JSON: what changed, in values that JSON knows.
    """
    name = target if isinstance(target, str) else f"{kind_and_number(target)}{target}"
    return AuditEvent.objects.create(actor=actor, action=action, target=name[:120], detail=detail)


def events_of(target: Model, action: str) -> QuerySet[AuditEvent]:
    """How often and when this was done to `target`, whatever its name was then."""
    return AuditEvent.objects.filter(action=action, target__startswith=kind_and_number(target))


def kind_and_number(target: Model) -> str:
    return f"{target._meta.verbose_name} {target.pk}: "
