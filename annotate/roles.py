"""Roles are Django groups: what each may do is said here and nowhere else.

Managers may annotate too; a superuser may do everything.
"""

from collections.abc import Iterable

from django.db import models
from django.utils.translation import gettext_lazy as _


class Role(models.TextChoices):
    ANNOTATOR = "annotator", _("annotator")
    MANAGER = "manager", _("manager")
    RESEARCHER = "researcher", _("researcher")


MAY_ANNOTATE = frozenset({Role.ANNOTATOR, Role.MANAGER})
MAY_MANAGE = frozenset({Role.MANAGER})
MAY_RESEARCH = frozenset({Role.RESEARCHER, Role.MANAGER})
MAY_SIGN_IN = frozenset(Role)


def roles_of(user) -> frozenset[str]:
    """The roles of a signed-in user; asked once per request, then remembered on the user."""
    if not user.is_authenticated or not user.is_active:
        return frozenset()
    if user.is_superuser:
        return frozenset(Role.values)
    if not hasattr(user, "_roles"):
        remember_roles(user, user.groups.values_list("name", flat=True))
    return user._roles


def remember_roles(user, group_names: Iterable[str]) -> None:
    user._roles = frozenset(group_names) & frozenset(Role.values)


def has_role(user, allowed: frozenset[str]) -> bool:
    return bool(roles_of(user) & allowed)
