"""Training runs: one turn of the loop each, and what they measured on the way."""

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from annotate.models import Policy, PolicyCheckpoint, PreferenceSnapshot, User


class TrainingRun(models.Model):
    """One turn of the loop for one policy. The database holds that there is never more than one at work."""

    class Status(models.TextChoices):
        QUEUED = "queued", _("queued")
        COLLECTING = "collecting", _("collecting rankings")
        REWARD = "reward", _("training the reward model")
        PPO = "ppo", _("training the policy")
        EVALUATING = "evaluating", _("evaluating")
        GATED = "gated", _("at the gate")
        PUBLISHED = "published", _("published")
        REJECTED = "rejected", _("rejected")
        FAILED = "failed", _("failed")
        CANCELLED = "cancelled", _("cancelled")

    ACTIVE = [Status.QUEUED, Status.COLLECTING, Status.REWARD, Status.PPO, Status.EVALUATING, Status.GATED]

    policy = models.ForeignKey(Policy, on_delete=models.PROTECT, related_name="runs")
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.QUEUED)
    parent = models.ForeignKey(PolicyCheckpoint, null=True, on_delete=models.PROTECT, related_name="runs_from_here")
    snapshot = models.ForeignKey(PreferenceSnapshot, null=True, on_delete=models.PROTECT, related_name="runs")
    candidate = models.OneToOneField(PolicyCheckpoint, null=True, on_delete=models.PROTECT, related_name="run")
    folder = models.CharField(max_length=500, blank=True, help_text=_("Run folder under the data folder."))
    config = models.JSONField(default=dict, blank=True)

    stage = models.CharField(max_length=10, blank=True)
    step = models.PositiveIntegerField(default=0)
    steps = models.PositiveIntegerField(default=0)
    seconds_left = models.FloatField(null=True, blank=True)
    message = models.TextField(blank=True)
    verdict = models.JSONField(default=dict, blank=True)
    reason = models.TextField(blank=True, help_text=_("Why it failed or was rejected, in words."))
    can_retry = models.BooleanField(default=False)

    started_by = models.ForeignKey(User, null=True, blank=True, on_delete=models.SET_NULL)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["policy"],
                condition=Q(status__in=["queued", "collecting", "reward", "ppo", "evaluating", "gated"]),
                name="one_active_run_per_policy",
            ),
        ]

    def __str__(self) -> str:
        return f"run {self.pk}"

    @property
    def is_active(self) -> bool:
        return self.status in self.ACTIVE


class RunMetric(models.Model):
    """One step of one stage: what the trainer wrote in `metrics.jsonl`, as it wrote it."""

    run = models.ForeignKey(TrainingRun, on_delete=models.CASCADE, related_name="metrics")
    stage = models.CharField(max_length=10)
    step = models.PositiveIntegerField()
    values = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["run", "id"]
        constraints = [models.UniqueConstraint(fields=["run", "stage", "step"], name="one_metric_row_per_step")]

    def __str__(self) -> str:
        return f"run {self.run_id} {self.stage} {self.step}"
