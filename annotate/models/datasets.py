"""Frozen sets of rankings, demonstrations, and who changed what."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from annotate.models.comparisons import Ranking
from annotate.models.people import User
from annotate.models.policies import Policy
from annotate.models.pools import Prompt


class PreferenceSnapshot(models.Model):
    """The exact rankings a run or an export used: frozen, hashed, answerable both ways."""

    policy = models.ForeignKey(Policy, on_delete=models.PROTECT, related_name="snapshots")
    rankings = models.ManyToManyField(Ranking, related_name="snapshots", blank=True)
    filters = models.JSONField(default=dict, blank=True)
    content_hash = models.CharField(max_length=64)
    size = models.PositiveIntegerField()
    has_token_ids = models.BooleanField(default=True)  # its records, and so its hash, hold what each was sampled as
    newest_ranking_id = models.BigIntegerField(default=0)
    note = models.TextField(blank=True)
    created_by = models.ForeignKey(User, null=True, blank=True, on_delete=models.SET_NULL)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"snapshot {self.pk} of {self.size} rankings"


class Demonstration(models.Model):
    """A better answer that a person wrote by hand; supervised fine-tuning can learn from it.

    It belongs to the revision that said it: a correction says it anew or leaves it out, and the earlier one stays.
    """

    prompt = models.ForeignKey(Prompt, on_delete=models.CASCADE, related_name="demonstrations")
    ranking = models.OneToOneField(Ranking, on_delete=models.CASCADE, related_name="demonstration")
    author = models.ForeignKey(User, on_delete=models.CASCADE, related_name="demonstrations")
    text = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.text[:80]


class AuditEvent(models.Model):
    """Who changed what, and when. Never edited, never deleted."""

    actor = models.ForeignKey(User, null=True, blank=True, on_delete=models.SET_NULL)
    action = models.CharField(max_length=60, help_text=_("verb.noun, such as pause.pool"))
    target = models.CharField(max_length=120)
    detail = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.action} {self.target}"
