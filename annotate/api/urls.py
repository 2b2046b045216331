"""The API's addresses on the human side, under /api/v1/. `trainer.api.urls` has the rest."""

from django.urls import path

from annotate.api.assignments import AssignmentRanking, AssignmentRevision, Assignments, AssignmentSkip

urlpatterns = [
    path("assignments/", Assignments.as_view(), name="api_assignments"),
    path("assignments/<int:pk>/ranking/", AssignmentRanking.as_view(), name="api_assignment_ranking"),
    path("assignments/<int:pk>/revision/", AssignmentRevision.as_view(), name="api_assignment_revision"),
    path("assignments/<int:pk>/skip/", AssignmentSkip.as_view(), name="api_assignment_skip"),
]
