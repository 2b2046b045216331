"""Every address. URL name = view name = template name."""

from django.urls import include, path

urlpatterns = [
    path("", include("annotate.urls")),
    path("", include("trainer.urls")),
    path("account/", include("allauth.account.urls")),
    path("i18n/", include("django.conf.urls.i18n")),
]
