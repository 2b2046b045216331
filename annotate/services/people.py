"""Roles; what happens when somebody leaves or takes their answers back."""

from datetime import timedelta

from django.contrib.auth.models import Group
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotate.errors import Refused
from annotate.models import Assignment, PolicyCheckpoint, User
from annotate.roles import Role
from annotate.services.assignments import release_expired_leases
from annotate.services.audit import record
from annotate.services.snapshots import withdraw_annotator


class Withdrawn(Refused):
    code = "withdrawn"
    sentence = _("This person took all answers back: the account stays closed, since no new answer would count.")


class LastManager(Refused):
    code = "last_manager"
    sentence = _("This is the only manager. Make somebody else a manager first.")


def give_role(user: User, role: str) -> None:
    """Give `user` this one role and no other."""
    group, _created = Group.objects.get_or_create(name=Role(role).value)
    user.groups.remove(*user.groups.filter(name__in=Role.values).exclude(pk=group.pk))
    user.groups.add(group)
    user.__dict__.pop("_roles", None)


@transaction.atomic
def change_role(*, user: User, role: str, by: User) -> None:
    """Raises LastManager where nobody else could manage afterwards."""
    before = sorted(user.groups.values_list("name", flat=True))
    if role != Role.MANAGER:
        refuse_if_last_manager(user)
    give_role(user, role)
    record(by, "change.role", user, before=before, after=role)


@transaction.atomic
def deactivate_person(*, user: User, by: User) -> None:
    """End an account: no more signing in, leases given back. The answers stay and count. Raises LastManager."""
    refuse_if_last_manager(user)
    user.is_active = False
    user.save(update_fields=["is_active"])
    give_leases_back(user)
    record(by, "deactivate.person", user)


@transaction.atomic
def reactivate_person(*, user: User, by: User) -> None:
    """Open a deactivated account again. Raises Withdrawn: that cannot be undone."""
    if user.withdrawn_at:
        raise Withdrawn
    user.is_active = True
    user.save(update_fields=["is_active"])
    record(by, "reactivate.person", user)


@transaction.atomic
def withdraw_person(*, user: User, by: User) -> list[PolicyCheckpoint]:
    """Take somebody's answers out of every later snapshot and end the account. Returns the checkpoints they touched.

    Snapshots that exist are frozen and keep them: those checkpoints have learned from them already. Raises LastManager.
    """
    refuse_if_last_manager(user)
    give_leases_back(user)
    return withdraw_annotator(annotator=user, by=by)


def give_leases_back(user: User) -> None:
    Assignment.objects.filter(annotator=user, status=Assignment.Status.LEASED).update(
        expires_at=timezone.now() - timedelta(seconds=1)
    )
    release_expired_leases()


def refuse_if_last_manager(user: User) -> None:
    """Lock the managers' group, so that two managers cannot demote each other at once."""
    Group.objects.select_for_update().filter(name=Role.MANAGER).first()
    managers = User.objects.filter(is_active=True, groups__name=Role.MANAGER)
    if user.is_active and managers.filter(pk=user.pk).exists() and not managers.exclude(pk=user.pk).exists():
        raise LastManager
