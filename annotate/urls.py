"""The human side's addresses. URL name = view name = template name."""

from django.urls import include, path

from annotate.views.account import invitation, language
from annotate.views.api import api, api_schema
from annotate.views.audit import audit
from annotate.views.gold import pool_gold, pool_gold_new, pool_gold_withdraw
from annotate.views.home import home
from annotate.views.keys import keys
from annotate.views.leave import leave
from annotate.views.members import pool_member_let_through, pool_member_remove, pool_members
from annotate.views.people import (
    invitation_revoke,
    people,
    person,
    person_deactivate,
    person_reactivate,
    person_role,
    person_withdraw,
)
from annotate.views.pools import pool, pool_edit, pool_guidelines, pool_new, pool_pause, pool_resume, pools
from annotate.views.preferences import preferences, preferences_download
from annotate.views.prompts import pool_import, pool_prompt_restore, pool_prompt_retire, pool_prompts
from annotate.views.rank import guidelines, rank, rank_feedback, rank_next
from annotate.views.snapshots import snapshot, snapshot_card, snapshots
from annotate.views.work import changes, correction, work

urlpatterns = [
    path("", home, name="home"),
    path("language/", language, name="language"),
    path("invitations/<str:token>/", invitation, name="invitation"),
    # --- annotators
    path("rank/", rank, name="rank"),
    path("rank/next/", rank_next, name="rank_next"),
    path("rank/feedback/<int:assignment_id>/", rank_feedback, name="rank_feedback"),
    path("rank/keys/", keys, name="keys"),
    path("guidelines/<int:version_id>/", guidelines, name="guidelines"),
    path("work/", work, name="work"),
    path("work/<int:assignment_id>/", correction, name="correction"),
    path("work/changes/", changes, name="changes"),
    path("leave/", leave, name="leave"),
    # --- managers: pools
    path("pools/", pools, name="pools"),
    path("pools/new/", pool_new, name="pool_new"),
    path("pools/<int:pool_id>/", pool, name="pool"),
    path("pools/<int:pool_id>/edit/", pool_edit, name="pool_edit"),
    path("pools/<int:pool_id>/pause/", pool_pause, name="pool_pause"),
    path("pools/<int:pool_id>/resume/", pool_resume, name="pool_resume"),
    path("pools/<int:pool_id>/guidelines/", pool_guidelines, name="pool_guidelines"),
    path("pools/<int:pool_id>/members/", pool_members, name="pool_members"),
    path("pools/<int:pool_id>/members/<int:member_id>/remove/", pool_member_remove, name="pool_member_remove"),
    path(
        "pools/<int:pool_id>/members/<int:member_id>/let-through/",
        pool_member_let_through,
        name="pool_member_let_through",
    ),
    path("pools/<int:pool_id>/prompts/", pool_prompts, name="pool_prompts"),
    path("pools/<int:pool_id>/prompts/<int:prompt_id>/retire/", pool_prompt_retire, name="pool_prompt_retire"),
    path("pools/<int:pool_id>/prompts/<int:prompt_id>/restore/", pool_prompt_restore, name="pool_prompt_restore"),
    path("pools/<int:pool_id>/import/", pool_import, name="pool_import"),
    path("pools/<int:pool_id>/gold/", pool_gold, name="pool_gold"),
    path("pools/<int:pool_id>/gold/<int:comparison_id>/", pool_gold_new, name="pool_gold_new"),
    path("pools/<int:pool_id>/gold/<int:comparison_id>/withdraw/", pool_gold_withdraw, name="pool_gold_withdraw"),
    # --- managers: people
    path("people/", people, name="people"),
    path("people/<int:person_id>/", person, name="person"),
    path("people/<int:person_id>/role/", person_role, name="person_role"),
    path("people/<int:person_id>/deactivate/", person_deactivate, name="person_deactivate"),
    path("people/<int:person_id>/reactivate/", person_reactivate, name="person_reactivate"),
    path("people/<int:person_id>/withdraw/", person_withdraw, name="person_withdraw"),
    path("people/invitations/<int:invitation_id>/revoke/", invitation_revoke, name="invitation_revoke"),
    path("audit/", audit, name="audit"),
    # --- researchers
    path("preferences/", preferences, name="preferences"),
    path("preferences/download/", preferences_download, name="preferences_download"),
    path("snapshots/", snapshots, name="snapshots"),
    path("snapshots/<int:snapshot_id>/", snapshot, name="snapshot"),
    path("snapshots/<int:snapshot_id>/card/", snapshot_card, name="snapshot_card"),
    # --- programs
    path("api/", api, name="api"),
    path("api/schema/", api_schema, name="api_schema"),
    path("api/v1/", include("annotate.api.urls")),
]
