"""allauth's forms with labels as everywhere else. `ACCOUNT_FORMS` in the settings names them."""

from allauth.account import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from annotate.forms import Plain

ADDRESS = _("E-mail address")

# Django's, marked for our catalogue alone: it has no Chinese for the one, and sets spaces within the other.
OF_PASSWORDS = (
    ngettext_lazy(
        "This password is too short. It must contain at least %d character.",
        "This password is too short. It must contain at least %d characters.",
        "count",
    ),
    _("The password is too similar to the %(verbose_name)s."),
)


class AllauthForm(Plain):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            field.widget.attrs.pop("placeholder", None)  # it says what the label says


class SignInForm(AllauthForm, forms.LoginForm):
    """Without allauth's second link to a forgotten password: the page has its own."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["login"].label = ADDRESS
        self.fields["login"].widget.attrs["autofocus"] = True
        self.fields["password"].help_text = ""

    def clean(self):
        """What was refused is most often the password: one goes on there, and a screen reader reads why with it."""
        try:
            return super().clean()
        except ValidationError as refusal:
            del self.fields["login"].widget.attrs["autofocus"]
            self.fields["password"].widget.attrs["autofocus"] = True
            raise ValidationError({"password": refusal.messages}) from refusal


class ForgottenPasswordForm(AllauthForm, forms.ResetPasswordForm):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["email"].label = ADDRESS


class NewPasswordForm(AllauthForm, forms.ResetPasswordKeyForm):
    """From the link in the mail."""


class ChangePasswordForm(AllauthForm, forms.ChangePasswordForm):
    """By somebody who is signed in."""
