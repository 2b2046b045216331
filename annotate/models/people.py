"""People: one account each, a pseudonym that exports show instead of a name, invitations."""

import secrets

from django.contrib.auth.models import AbstractUser, UserManager
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotate.roles import Role


def new_pseudonym() -> str:
    return f"a-{secrets.token_hex(5)}"


def new_invitation_token() -> str:
    return secrets.token_urlsafe(24)


class Accounts(UserManager["User"]):
    use_in_migrations = False

    @classmethod
    def normalize_email(cls, email: str | None) -> str:
        """In small letters as a whole: the sign-in writes what is typed so, and looks for exactly that."""
        return (email or "").strip().lower()


class User(AbstractUser):
    """An account. What it may do is decided by the groups named in `annotate.roles`."""

    email = models.EmailField(_("email address"), unique=True)
    pseudonym = models.CharField(max_length=16, unique=True, default=new_pseudonym, editable=False)
    language = models.CharField(max_length=12, blank=True, default="")
    keys = models.JSONField(default=dict, blank=True, help_text=_("Keys remapped on the ranking page."))
    withdrawn_at = models.DateTimeField(null=True, blank=True)

    objects = Accounts()

    def __str__(self) -> str:
        return self.email or self.username


class InvitationQuerySet(models.QuerySet["Invitation"]):
    def open(self):
        return self.filter(accepted_at=None, expires_at__gt=timezone.now())


class Invitation(models.Model):
    """A link that makes one account with one role, once."""

    token = models.CharField(max_length=64, unique=True, default=new_invitation_token, editable=False)
    email = models.EmailField()
    role = models.CharField(max_length=16, choices=Role.choices)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="invitations_made")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, blank=True)
    accepted_by = models.ForeignKey(
        User, null=True, blank=True, on_delete=models.SET_NULL, related_name="invitations_accepted"
    )

    objects = InvitationQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.email} as {self.role}"
