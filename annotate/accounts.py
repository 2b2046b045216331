"""Sign-in is allauth's; signing up is by invitation alone. The pages speak the account's language from then on."""

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.auth_backends import AuthenticationBackend
from django.conf import settings
from django.http import HttpResponse
from django.utils.translation import gettext_lazy as _

from annotate.models import User
from annotate.roles import remember_roles

CHOSEN_AT_THE_DOOR = "language"  # in the session of whoever is not signed in yet

PERSON = """
SELECT person.*, ARRAY(
    SELECT g.name FROM auth_group g JOIN annotate_user_groups m ON m.group_id = g.id WHERE m.user_id = person.id
) AS group_names
FROM annotate_user person WHERE person.id = %s
"""


def keep_language(user: User, code: str) -> None:
    """Keep a language in the account, for every browser to come."""
    if code and code != user.language:
        user.language = code
        user.save(update_fields=["language"])


def remember_language(response: HttpResponse, code: str) -> HttpResponse:
    """Keep a language in the browser, as Django's own switch does."""
    if code:
        response.set_cookie(
            settings.LANGUAGE_COOKIE_NAME,
            code,
            max_age=settings.LANGUAGE_COOKIE_AGE,
            path=settings.LANGUAGE_COOKIE_PATH,
            secure=settings.SESSION_COOKIE_SECURE,
            samesite="Lax",
        )
    return response


class SignIn(AuthenticationBackend):
    """Allauth's; but whoever a session belongs to is read with their groups: one statement a request instead of two."""

    def get_user(self, user_id) -> User | None:
        user = next(iter(User.objects.raw(PERSON, [user_id])), None)
        if user is None or not self.user_can_authenticate(user):
            return None
        remember_roles(user, user.group_names)
        return user


class InvitedOnly(DefaultAccountAdapter):
    error_messages = DefaultAccountAdapter.error_messages | {
        "email_password_mismatch": _("The e-mail address or the password is not right."),
    }

    def is_open_for_signup(self, request) -> bool:
        return False

    def post_login(self, request, user, **kwargs) -> HttpResponse:
        keep_language(user, request.session.pop(CHOSEN_AT_THE_DOOR, ""))
        return remember_language(super().post_login(request, user, **kwargs), user.language)
