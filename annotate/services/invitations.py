"""Accounts are made by invitation: a link that makes one account with one role, once."""

from datetime import timedelta

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotate.errors import Refused
from annotate.models import Invitation, User
from annotate.roles import Role
from annotate.services.audit import record
from annotate.services.people import give_role

INVITATION_DAYS = 14


class AlreadyHere(Refused):
    code = "already_here"
    sentence = _("Somebody with this e-mail address has an account already.")


class InvitationOver(Refused):
    code = "invitation_over"
    sentence = _("This invitation is no longer open. Ask for a new one.")


@transaction.atomic
def make_account(*, email: str, role: str, password: str | None = None, by: User | None = None) -> User:
    """A new account with one role; without a password nobody can sign in to it. Raises AlreadyHere."""
    email = User.objects.normalize_email(email)
    if User.objects.filter(email__iexact=email).exists():
        raise AlreadyHere
    user = User.objects.create_user(username=email[:150], email=email, password=password)
    give_role(user, role)
    record(by, "make.account", user, role=role)
    return user


@transaction.atomic
def invite_person(*, email: str, role: str, by: User | None = None) -> Invitation:
    """A link that makes one account, once, within two weeks. An older open one for the same address ends."""
    email = User.objects.normalize_email(email)
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
