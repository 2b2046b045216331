"""The human side's addresses. URL name = view name = template name."""

from django.urls import path

from annotate.views.account import invitation, language
from annotate.views.home import home
from annotate.views.rank import rank

urlpatterns = [
    path("", home, name="home"),
    path("language/", language, name="language"),
    path("invitations/<str:token>/", invitation, name="invitation"),
    # --- annotators
    path("rank/", rank, name="rank"),
]
