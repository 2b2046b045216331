"""Every address. URL name = view name = template name."""

from allauth.account import views as account
from django.urls import include, path, re_path

from annotate.api.nothing import api_nothing
from config.health import healthz, readyz

urlpatterns = [
    path("", include("annotate.urls")),
    path("", include("trainer.urls")),
    # --- allauth's, and of those only what this place uses: an address is who one is, and changes by invitation alone
    path("account/login/", account.login, name="account_login"),
    path("account/logout/", account.logout, name="account_logout"),
    path("account/inactive/", account.account_inactive, name="account_inactive"),
    path("account/signup/", account.signup, name="account_signup"),  # says that there is none
    path("account/password/change/", account.password_change, name="account_change_password"),
    path("account/password/set/", account.password_set, name="account_set_password"),  # where there is none to change
    path("account/password/reset/", account.password_reset, name="account_reset_password"),
    path("account/password/reset/done/", account.password_reset_done, name="account_reset_password_done"),
    path(
        "account/password/reset/key/done/",
        account.password_reset_from_key_done,
        name="account_reset_password_from_key_done",
    ),
    re_path(
        r"^account/password/reset/key/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>.+)/$",
        account.password_reset_from_key,
        name="account_reset_password_from_key",
    ),
    # ---
    path("i18n/", include("django.conf.urls.i18n")),
    path("healthz", healthz, name="healthz"),
    path("readyz", readyz, name="readyz"),
    path("api/<path:rest>", api_nothing, name="api_nothing"),
]
