"""Completions, the comparisons they stand in, who ranks them, and the answers."""

import secrets

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from annotate.models.people import User
from annotate.models.policies import PolicyCheckpoint
from annotate.models.pools import GuidelineVersion, Prompt, PromptPool


def new_fencing_token() -> str:
    return secrets.token_urlsafe(12)


class Comparison(models.Model):
    """K completions of one prompt, waiting for `overlap` annotators.

    `taken` counts live leases and answers together, `answered` the answers alone. They live on the row that a lease
    locks, so that the condition `taken < overlap` is looked at again, on the newest version of the row, by whoever
    waited for the lock (PostgreSQL re-evaluates it; a count over another table would be read from an old snapshot).

    A gold or training comparison is a copy of a fresh one, `copied_from`: nobody is asked the same texts in both.
    """

    class Kind(models.TextChoices):
        FRESH = "fresh", _("fresh")
        GOLD = "gold", _("gold")
        TRAINING = "training", _("training")

    pool = models.ForeignKey(PromptPool, on_delete=models.CASCADE, related_name="comparisons")
    prompt = models.ForeignKey(Prompt, on_delete=models.CASCADE, related_name="comparisons")
    kind = models.CharField(max_length=8, choices=Kind.choices, default=Kind.FRESH)
    gold_ranks = models.JSONField(null=True, blank=True, help_text=_("Right answer: completion id to rank."))
    gold_explanation = models.TextField(blank=True)
    copied_from = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="copies", db_index=False
    )
    overlap = models.PositiveIntegerField(default=1)
    taken = models.PositiveIntegerField(default=0)
    answered = models.PositiveIntegerField(default=0)
    priority = models.IntegerField(default=0, help_text=_("Higher comes first."))
    is_withdrawn = models.BooleanField(default=False)
    asked_again_at = models.DateTimeField(null=True, blank=True, help_text=_("When a second opinion was asked for."))
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(taken__lte=F("overlap")), name="never_more_than_overlap"),
            models.CheckConstraint(condition=Q(answered__lte=F("taken")), name="an_answer_is_a_taken_place"),
        ]
        indexes = [
            models.Index(
                fields=["pool", "kind", "-priority", "id"],
                condition=Q(taken__lt=F("overlap"), is_withdrawn=False),
                name="open_comparisons",
            ),
            models.Index(fields=["copied_from"], condition=Q(copied_from__isnull=False), name="copies_of_a_comparison"),
        ]

    def __str__(self) -> str:
        return f"comparison {self.pk}"


class Completion(models.Model):
    """What a checkpoint wrote for a prompt, and all that is needed to write it again."""

    class FinishReason(models.TextChoices):
        STOP = "stop", _("ended by itself")
        LENGTH = "length", _("cut at the limit")
        HUMAN = "human", _("written by a person")

    comparison = models.ForeignKey(Comparison, on_delete=models.CASCADE, related_name="completions")
    checkpoint = models.ForeignKey(PolicyCheckpoint, null=True, on_delete=models.PROTECT, related_name="completions")
    text = models.TextField()
    token_ids = ArrayField(models.IntegerField(), default=list)
    sampling = models.JSONField(default=dict)
    seed = models.BigIntegerField(default=0)
    finish_reason = models.CharField(max_length=8, choices=FinishReason.choices, default=FinishReason.STOP)
    scores = models.JSONField(default=dict, blank=True, help_text=_("Score by reward model, written after the answer."))
    names_its_model = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.text[:80]


class Assignment(models.Model):
    """A comparison lent to one annotator for a while; the token is needed to answer it.

    One that ran out begins anew under the same token, if the same person comes back to it before others have its place.
    """

    class Status(models.TextChoices):
        LEASED = "leased", _("leased")
        ANSWERED = "answered", _("answered")
        SKIPPED = "skipped", _("skipped")
        EXPIRED = "expired", _("expired")

    comparison = models.ForeignKey(Comparison, on_delete=models.CASCADE, related_name="assignments")
    annotator = models.ForeignKey(User, on_delete=models.CASCADE, related_name="assignments")
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.LEASED)
    token = models.CharField(max_length=24, default=new_fencing_token)
    order = ArrayField(models.BigIntegerField(), help_text=_("Completion ids as shown, first to last."))
    guideline_version = models.ForeignKey(GuidelineVersion, null=True, on_delete=models.SET_NULL)
    leased_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    skip_reason = models.CharField(max_length=200, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["comparison", "annotator"],
                condition=~Q(status="expired"),
                name="never_the_same_person_twice",
            ),
        ]
        indexes = [
            models.Index(fields=["expires_at"], condition=Q(status="leased"), name="live_leases"),
            models.Index(fields=["annotator", "-finished_at"], name="work_of_an_annotator"),
        ]

    def __str__(self) -> str:
        return f"assignment {self.pk}"


class RankingQuerySet(models.QuerySet["Ranking"]):
    def current(self):
        """The newest revision of each answer, of people who did not withdraw, as far as it counts."""
        return self.filter(is_current=True, counts=True, annotator__withdrawn_at=None)


class Ranking(models.Model):
    """An answer. Append-only: a correction is a new revision and the old one stays.

    `pool` and `annotator` stand on the row though they follow from the assignment: uniqueness of the idempotency key
    and the count of new rankings per pool are then the database's to hold, at a million rows.
    """

    assignment = models.ForeignKey(Assignment, on_delete=models.CASCADE, related_name="rankings")
    pool = models.ForeignKey(PromptPool, on_delete=models.CASCADE, related_name="rankings")
    annotator = models.ForeignKey(User, on_delete=models.CASCADE, related_name="rankings")
    revision = models.PositiveSmallIntegerField(default=1)
    is_current = models.BooleanField(default=True)
    counts = models.BooleanField(default=True, help_text=_("False for training answers: nothing learns from them."))
    ranks = models.JSONField(help_text=_("Completion id to rank; 1 is best, equal numbers are ties."))
    all_bad = models.BooleanField(default=False)
    flags = models.JSONField(default=dict, blank=True)
    axes = models.JSONField(default=dict, blank=True)
    spans = models.JSONField(default=list, blank=True)
    strength = models.PositiveSmallIntegerField(null=True, blank=True)
    rationale = models.TextField(blank=True)
    chips = models.JSONField(default=list, blank=True)
    active_ms = models.PositiveIntegerField(null=True, blank=True)
    first_action_ms = models.PositiveIntegerField(null=True, blank=True)
    changes = models.PositiveIntegerField(null=True, blank=True)
    idempotency_key = models.CharField(max_length=80)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = RankingQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["annotator", "idempotency_key"], name="submitted_once"),
            models.UniqueConstraint(fields=["assignment", "revision"], name="ranking_revision_once"),
            models.UniqueConstraint(
                fields=["assignment"], condition=Q(is_current=True), name="one_current_ranking_per_assignment"
            ),
        ]
        indexes = [
            models.Index(fields=["pool", "id"], condition=Q(is_current=True, counts=True), name="rankings_that_count"),
        ]

    def __str__(self) -> str:
        return f"ranking {self.pk}"
