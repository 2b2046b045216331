"""Policies and their checkpoints: who wrote a completion."""

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _


class Policy(models.Model):
    """A named lineage of checkpoints: base model, training recipe, gate thresholds."""

    name = models.SlugField(max_length=60, unique=True)
    base_model = models.CharField(max_length=500, help_text=_("A Hugging Face id or a local folder."))
    trust_remote_code = models.BooleanField(
        default=False, help_text=_("Runs code that comes with the model. Only for models you trust.")
    )
    recipe = models.JSONField(default=dict, blank=True, help_text=_("What differs from the trainer's defaults."))
    gate = models.JSONField(default=dict, blank=True, help_text=_("What differs from the gate's defaults."))
    retrain_after = models.PositiveIntegerField(
        default=100, help_text=_("New rankings that start the next turn of the loop; 0 never starts one by itself.")
    )
    serving_epoch = models.PositiveIntegerField(
        default=0, help_text=_("Grows whenever another checkpoint serves: the priority of fresh comparisons.")
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "policies"
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def serving(self) -> "PolicyCheckpoint":
        return self.checkpoints.get(status=PolicyCheckpoint.Status.SERVING)


class PolicyCheckpoint(models.Model):
    """One immutable set of weights. Number 0 is the base model itself; every other names its parent."""

    class Status(models.TextChoices):
        CANDIDATE = "candidate", _("candidate")
        SERVING = "serving", _("serving")
        RETIRED = "retired", _("retired")
        REJECTED = "rejected", _("rejected")

    policy = models.ForeignKey(Policy, on_delete=models.PROTECT, related_name="checkpoints")
    number = models.PositiveIntegerField()
    parent = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="children")
    path = models.CharField(
        max_length=500, blank=True, help_text=_("Adapter folder under the data folder; empty: base.")
    )
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.CANDIDATE)
    status_reason = models.TextField(blank=True)
    metrics = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["policy", "number"]
        constraints = [
            models.UniqueConstraint(fields=["policy", "number"], name="checkpoint_number_once"),
            models.UniqueConstraint(fields=["policy"], condition=Q(status="serving"), name="one_serving_checkpoint"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        return f"{self.policy.name}-{self.number}"
