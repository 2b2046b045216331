"""The learning side's addresses. URL name = view name = template name."""

from django.urls import include, path

from trainer.views.checkpoints import checkpoint, checkpoint_roll_back, checkpoints
from trainer.views.policies import policy_edit, policy_new
from trainer.views.runs import run, run_cancel, run_chart, run_plot, run_resume, run_start, runs

urlpatterns = [
    path("policies/new/", policy_new, name="policy_new"),
    path("policies/<int:policy_id>/edit/", policy_edit, name="policy_edit"),
    path("runs/", runs, name="runs"),
    path("runs/start/<int:policy_id>/", run_start, name="run_start"),
    path("runs/<int:run_id>/", run, name="run"),
    path("runs/<int:run_id>/charts/<slug:name>.svg", run_chart, name="run_chart"),
    path("runs/<int:run_id>/plots/<slug:name>.svg", run_plot, name="run_plot"),
    path("runs/<int:run_id>/cancel/", run_cancel, name="run_cancel"),
    path("runs/<int:run_id>/resume/", run_resume, name="run_resume"),
    path("checkpoints/", checkpoints, name="checkpoints"),
    path("checkpoints/<int:checkpoint_id>/", checkpoint, name="checkpoint"),
    path("checkpoints/<int:checkpoint_id>/roll-back/", checkpoint_roll_back, name="checkpoint_roll_back"),
    # --- programs
    path("", include("trainer.api.urls")),
]
