"""The API's addresses on the human side, under /api/v1/. `trainer.api.urls` has the rest."""

from django.urls import path

from annotate.api.assignments import AssignmentRanking, AssignmentRevision, Assignments, AssignmentSkip
from annotate.api.members import PoolGold, PoolGoldDetail, PoolMemberDetail, PoolMemberLetThrough, PoolMembers
from annotate.api.people import AuditEvents, InvitationDetail, Invitations, People, PersonDetail, PersonWithdraw
from annotate.api.pools import PoolDetail, Pools
from annotate.api.preferences import Preferences, SnapshotCard, SnapshotDetail, Snapshots
from annotate.api.prompts import PoolPromptDetail, PoolPrompts
from annotate.api.renewal import AssignmentRenewal

urlpatterns = [
    path("assignments/", Assignments.as_view(), name="api_assignments"),
    path("assignments/renewal/", AssignmentRenewal.as_view(), name="api_assignment_renewal"),
    path("assignments/<int:pk>/ranking/", AssignmentRanking.as_view(), name="api_assignment_ranking"),
    path("assignments/<int:pk>/revision/", AssignmentRevision.as_view(), name="api_assignment_revision"),
    path("assignments/<int:pk>/skip/", AssignmentSkip.as_view(), name="api_assignment_skip"),
    path("pools/", Pools.as_view(), name="api_pools"),
    path("pools/<int:pk>/", PoolDetail.as_view(), name="api_pool"),
    path("pools/<int:pk>/prompts/", PoolPrompts.as_view(), name="api_pool_prompts"),
    path("pools/<int:pk>/prompts/<int:prompt>/", PoolPromptDetail.as_view(), name="api_pool_prompt"),
    path("pools/<int:pk>/members/", PoolMembers.as_view(), name="api_pool_members"),
    path("pools/<int:pk>/members/<int:member>/", PoolMemberDetail.as_view(), name="api_pool_member"),
    path(
        "pools/<int:pk>/members/<int:member>/let-through/",
        PoolMemberLetThrough.as_view(),
        name="api_pool_member_let_through",
    ),
    path("pools/<int:pk>/gold/", PoolGold.as_view(), name="api_pool_gold"),
    path("pools/<int:pk>/gold/<int:comparison>/", PoolGoldDetail.as_view(), name="api_pool_gold_comparison"),
    path("preferences/", Preferences.as_view(), name="api_preferences"),
    path("snapshots/", Snapshots.as_view(), name="api_snapshots"),
    path("snapshots/<int:pk>/", SnapshotDetail.as_view(), name="api_snapshot"),
    path("snapshots/<int:pk>/card/", SnapshotCard.as_view(), name="api_snapshot_card"),
    path("people/", People.as_view(), name="api_people"),
    path("people/<int:pk>/", PersonDetail.as_view(), name="api_person"),
    path("people/<int:pk>/withdraw/", PersonWithdraw.as_view(), name="api_person_withdraw"),
    path("invitations/", Invitations.as_view(), name="api_invitations"),
    path("invitations/<int:pk>/", InvitationDetail.as_view(), name="api_invitation"),
    path("audit/", AuditEvents.as_view(), name="api_audit"),
]
