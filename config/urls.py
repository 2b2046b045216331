"""Every address. URL name = view name = template name."""

from django.urls import include, path

from annotate.api.nothing import api_nothing
from config.health import healthz, readyz

urlpatterns = [
    path("", include("annotate.urls")),
    path("", include("trainer.urls")),
    path("account/", include("allauth.account.urls")),
    path("i18n/", include("django.conf.urls.i18n")),
    path("healthz", healthz, name="healthz"),
    path("readyz", readyz, name="readyz"),
    path("api/<path:rest>", api_nothing, name="api_nothing"),
]
