"""Policies as managers make and change them."""

from django.db import transaction

from annotate.models import Policy, PolicyCheckpoint, User
from annotate.services.audit import record


@transaction.atomic
def make_policy(*, by: User | None, **fields) -> Policy:
    """A new lineage. Its checkpoint 0 is the base model itself, and serves. Raises ValidationError, by field."""
    policy = Policy(**fields)
    policy.full_clean()
    policy.save()
    PolicyCheckpoint.objects.create(policy=policy, number=0, status=PolicyCheckpoint.Status.SERVING)
    record(by, "make.policy", policy, **fields)
    return policy


@transaction.atomic
def change_policy(*, policy: Policy, by: User | None, **fields) -> Policy:
    """Change settings; they hold from the next run on. Raises ValidationError, by field."""
    policy = Policy.objects.select_for_update().get(pk=policy.pk)
    changes = {}
    for name, value in fields.items():
        if getattr(policy, name) != value:
            changes[name] = [getattr(policy, name), value]
            setattr(policy, name, value)
    policy.full_clean()
    policy.save(update_fields=list(fields))
    if changes:
        record(by, "change.policy", policy, **changes)
    return policy
