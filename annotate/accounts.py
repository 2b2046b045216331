"""Sign-in is allauth's; signing up is by invitation alone. The pages speak the account's language from then on."""

from allauth.account.adapter import DefaultAccountAdapter
from django.conf import settings
from django.http import HttpResponse
from django.utils.translation import gettext_lazy as _


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


class InvitedOnly(DefaultAccountAdapter):
    error_messages = DefaultAccountAdapter.error_messages | {
        "email_password_mismatch": _("The e-mail address or the password is not right."),
    }

    def is_open_for_signup(self, request) -> bool:
        return False

    def post_login(self, request, user, **kwargs) -> HttpResponse:
        return remember_language(super().post_login(request, user, **kwargs), user.language)
