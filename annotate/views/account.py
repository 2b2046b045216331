"""Coming in for the first time, and the language of the pages."""

from django import forms
from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.forms import SetPasswordMixin
from django.shortcuts import redirect, render
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST
from django.views.i18n import set_language

from annotate.accounts import CHOSEN_AT_THE_DOOR, keep_language
from annotate.errors import Refused
from annotate.forms import Plain
from annotate.models import Invitation, User
from annotate.selectors import pools_open_to_all
from annotate.services.invitations import accept_invitation


class PasswordForm(Plain, SetPasswordMixin, forms.Form):
    """A new password, once: a person who mistypes it can ask for a new link."""

    password = forms.CharField(
        label=_("Choose a password"),
        help_text=_("At least 10 characters."),
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password", "autofocus": True}),
        strip=False,
    )

    def __init__(self, *args, email: str, **kwargs):
        super().__init__(*args, **kwargs)
        self.email = email

    def clean(self):
        self.validate_password_for_user(User(email=self.email, username=self.email), "password")
        return super().clean()


def invitation(request, token: str):
    """The page behind an invitation link: a password, and one is at work."""
    invited = Invitation.objects.open().filter(token=token).first()
    if invited is None and request.user.is_authenticated:
        return redirect("home")  # the mail is some people's bookmark
    if invited is None:
        return render(request, "invitation.html", {"invitation": None}, status=410)
    form = PasswordForm(request.POST or None, email=invited.email)
    if request.method == "POST" and form.is_valid():
        try:
            user = accept_invitation(token=token, password=form.cleaned_data["password"])
        except Refused as refusal:
            form.add_error(None, str(refusal))
        else:
            login(request, user, backend=settings.AUTHENTICATION_BACKENDS[0])
            keep_language(user, request.session.pop(CHOSEN_AT_THE_DOOR, ""))
            return redirect("home")
    context = {"invitation": invited, "form": form, "pools": pools_open_to_all()}
    return render(request, "invitation.html", context)


@require_POST
def language(request):
    """Change the language of the pages; the cookie keeps it in this browser, the account everywhere else.

    Whoever is not signed in yet has no account to keep it in: it is kept there at the sign-in.
    """
    response = set_language(request)
    chosen = request.POST.get("language", "")
    if chosen not in dict(settings.LANGUAGES):
        return response
    if request.user.is_authenticated:
        keep_language(request.user, chosen)
    else:
        request.session[CHOSEN_AT_THE_DOOR] = chosen
    return response
