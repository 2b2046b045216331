"""The API's addresses on the learning side."""

from django.urls import path

from trainer.api.lineage import CheckpointLineage, RankingRuns
from trainer.api.monitoring import Metrics
from trainer.api.openai import ChatCompletions, Models
from trainer.api.policies import CheckpointRollBack, Policies, PolicyCheckpoints, PolicyDetail, PolicyRuns
from trainer.api.runs import RunCancel, RunDetail, RunMetrics, RunResume, Runs

urlpatterns = [
    path("api/v1/policies/", Policies.as_view(), name="api_policies"),
    path("api/v1/policies/<int:pk>/", PolicyDetail.as_view(), name="api_policy"),
    path("api/v1/policies/<int:pk>/checkpoints/", PolicyCheckpoints.as_view(), name="api_policy_checkpoints"),
    path("api/v1/policies/<int:pk>/runs/", PolicyRuns.as_view(), name="api_policy_runs"),
    path("api/v1/checkpoints/<int:pk>/roll-back/", CheckpointRollBack.as_view(), name="api_checkpoint_roll_back"),
    path("api/v1/checkpoints/<int:pk>/lineage/", CheckpointLineage.as_view(), name="api_checkpoint_lineage"),
    path("api/v1/rankings/<int:pk>/runs/", RankingRuns.as_view(), name="api_ranking_runs"),
    path("api/v1/runs/", Runs.as_view(), name="api_runs"),
    path("api/v1/runs/<int:pk>/", RunDetail.as_view(), name="api_run"),
    path("api/v1/runs/<int:pk>/metrics/", RunMetrics.as_view(), name="api_run_metrics"),
    path("api/v1/runs/<int:pk>/cancel/", RunCancel.as_view(), name="api_run_cancel"),
    path("api/v1/runs/<int:pk>/resume/", RunResume.as_view(), name="api_run_resume"),
    path("v1/models", Models.as_view(), name="openai_models"),
    path("v1/chat/completions", ChatCompletions.as_view(), name="openai_chat_completions"),
    path("metrics", Metrics.as_view(), name="metrics"),
]
