"""Accounts, roles and invitations; what happens when somebody leaves or takes their answers back."""

from datetime import timedelta

from django.contrib.auth.models import Group
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotate.errors import Refused
from annotate.models import Assignment, Invitation, PolicyCheckpoint, User
from annotate.roles import Role
from annotate.services.assignments import release_expired_leases
from annotate.services.audit import record

INVITATION_DAYS = 14


class AlreadyHere(Refused):
    code = "already_here"
    sentence = _("Somebody with this e-mail address has an account already.")


class LastManager(Refused):
    code = "last_manager"
    sentence = _("This is the only manager. Make somebody else a manager first.")


class InvitationOver(Refused):
    code = "invitation_over"
    sentence = _("This invitation is no longer open. Ask for a new one.")


@transaction.atomic
def make_account(*, email: str, role: str, password: str | None = None, by: User | None = None) -> User:
    """A new account with one role; without a password nobody can sign in to it. Raises AlreadyHere."""
    email = User.objects.normalize_email(email).strip()
    if User.objects.filter(email__iexact=email).exists():
        raise AlreadyHere
    user = User.objects.create_user(username=email[:150], email=email, password=password)
    give_role(user, role)
    record(by, "make.account", user, role=role)
    return user


def give_role(user: User, role: str) -> None:
    """Give `user` this one role and no other."""
    group, _created = Group.objects.get_or_create(name=Role(role).value)
    user.groups.remove(*user.groups.filter(name__in=Role.values).exclude(pk=group.pk))
    user.groups.add(group)
    user.__dict__.pop("_roles", None)


@transaction.atomic
def invite_person(*, email: str, role: str, by: User | None = None) -> Invitation:
    """A link that makes one account, once, within two weeks. An older open one for the same address ends."""
    email = User.objects.normalize_email(email).strip()
    if User.objects.filter(email__iexact=email).exists():
        raise AlreadyHere
    Invitation.objects.open().filter(email__iexact=email).update(expires_at=timezone.now())
    invitation = Invitation.objects.create(
        email=email,
        role=Role(role),
        created_by=by,
        expires_at=timezone.now() + timedelta(days=INVITATION_DAYS),
    )
    record(by, "make.invitation", invitation, email=email, role=role)
    return invitation


@transaction.atomic
def revoke_invitation(*, invitation: Invitation, by: User) -> None:
    """End an open invitation now. Raises InvitationOver where there is nothing left to revoke."""
    if not Invitation.objects.open().filter(pk=invitation.pk).update(expires_at=timezone.now()):
        raise InvitationOver
    record(by, "revoke.invitation", invitation, email=invitation.email)


@transaction.atomic
def accept_invitation(*, token: str, password: str) -> User:
    """Make the invited account. Two requests with one link make one account. Raises InvitationOver, AlreadyHere."""
    invitation = Invitation.objects.open().select_for_update().filter(token=token).first()
    if invitation is None:
        raise InvitationOver
    user = make_account(email=invitation.email, role=invitation.role, password=password)
    invitation.accepted_at, invitation.accepted_by = timezone.now(), user
    invitation.save(update_fields=["accepted_at", "accepted_by"])
    record(user, "accept.invitation", invitation)
    return user


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
    """Open a deactivated account again. Answers that were withdrawn stay withdrawn."""
    user.is_active = True
    user.save(update_fields=["is_active"])
    record(by, "reactivate.person", user)


@transaction.atomic
def withdraw_person(*, user: User, by: User) -> list[PolicyCheckpoint]:
    """Take somebody's answers out of every later snapshot and end the account. Returns the checkpoints they touched.

    Snapshots that exist are frozen and keep them: those checkpoints have learned from them already.
    """
    refuse_if_last_manager(user)
    user.is_active, user.withdrawn_at = False, user.withdrawn_at or timezone.now()
    user.save(update_fields=["is_active", "withdrawn_at"])
    give_leases_back(user)
    touched = list(checkpoints_touched_by(user))
    record(by, "withdraw.person", user, checkpoints=[checkpoint.name for checkpoint in touched])
    return touched


def checkpoints_touched_by(user: User):
    """Checkpoints whose run learned from an answer of this person."""
    return PolicyCheckpoint.objects.filter(run__snapshot__rankings__annotator=user).select_related("policy").distinct()


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
