"""The API's addresses on the human side, under /api/v1/. `trainer.api.urls` has the rest."""

from django.urls import path

from annotate.api.assignments import AssignmentRanking, AssignmentRevision, Assignments, AssignmentSkip
from annotate.api.pools import PoolDetail, Pools
from annotate.api.preferences import Preferences, SnapshotCard, SnapshotDetail, Snapshots
from annotate.api.prompts import PoolPrompts

urlpatterns = [
    path("assignments/", Assignments.as_view(), name="api_assignments"),
    path("assignments/<int:pk>/ranking/", AssignmentRanking.as_view(), name="api_assignment_ranking"),
    path("assignments/<int:pk>/revision/", AssignmentRevision.as_view(), name="api_assignment_revision"),
    path("assignments/<int:pk>/skip/", AssignmentSkip.as_view(), name="api_assignment_skip"),
    path("pools/", Pools.as_view(), name="api_pools"),
    path("pools/<int:pk>/", PoolDetail.as_view(), name="api_pool"),
    path("pools/<int:pk>/prompts/", PoolPrompts.as_view(), name="api_pool_prompts"),
    path("preferences/", Preferences.as_view(), name="api_preferences"),
    path("snapshots/", Snapshots.as_view(), name="api_snapshots"),
    path("snapshots/<int:pk>/", SnapshotDetail.as_view(), name="api_snapshot"),
    path("snapshots/<int:pk>/card/", SnapshotCard.as_view(), name="api_snapshot_card"),
]
