"""Prompt pools: what is asked, of whom, and how."""

import hashlib
import json

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _

from annotate.models.people import User
from annotate.models.policies import Policy

# A fifth of the prompts is never trained on. The hash decides, so that a prompt stays on its side for ever.
HELD_OUT_SHARE = 0.2


def default_sampling() -> dict:
    return {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 40}


def default_axes() -> list:
    return []


def default_flags() -> list:
    return ["unsafe", "untrue", "repeats", "wrong_language", "names_its_model"]


class PromptPool(models.Model):
    """A named set of prompts for one policy, and how its comparisons are made and ranked."""

    class Status(models.TextChoices):
        CHECKING = "checking", _("checking whether the base model writes its language")
        ACTIVE = "active", _("active")
        PAUSED = "paused", _("paused")

    name = models.CharField(max_length=100, unique=True)
    description = models.TextField(blank=True)
    policy = models.ForeignKey(Policy, on_delete=models.PROTECT, related_name="pools")
    language = models.CharField(max_length=12, default="en")
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.ACTIVE)
    status_reason = models.TextField(blank=True)

    k = models.PositiveSmallIntegerField(
        _("completions per comparison"), default=4, validators=[MinValueValidator(2), MaxValueValidator(9)]
    )
    overlap = models.PositiveSmallIntegerField(
        _("annotators per comparison"), default=1, validators=[MinValueValidator(1), MaxValueValidator(20)]
    )
    buffer_size = models.PositiveSmallIntegerField(_("comparisons kept ready"), default=16)
    lease_minutes = models.PositiveSmallIntegerField(default=30, validators=[MinValueValidator(1)])
    sampling = models.JSONField(default=default_sampling)
    incumbent_share = models.FloatField(
        _("share of completions by the incumbent"),
        default=0.25,
        validators=[MinValueValidator(0.0), MaxValueValidator(1.0)],
        help_text=_("The checkpoint that served before: ranked blind beside the serving one, it measures the gain."),
    )

    ties_allowed = models.BooleanField(default=True)
    strength_scale = models.PositiveSmallIntegerField(
        default=0, validators=[MaxValueValidator(4)], help_text=_("0: not asked; 2 to 4: how much better.")
    )
    axes = models.JSONField(default=default_axes, blank=True, help_text=_("Rated 1–5 each: helpful, honest, …"))
    flags = models.JSONField(default=default_flags, blank=True)
    rationale_chips = models.JSONField(default=default_axes, blank=True)
    asks_rationale = models.BooleanField(default=False)
    asks_spans = models.BooleanField(default=False)
    asks_better_answer = models.BooleanField(default=False)

    gold_share = models.FloatField(default=0.0, validators=[MinValueValidator(0.0), MaxValueValidator(0.5)])
    training_count = models.PositiveSmallIntegerField(
        default=0, help_text=_("Training comparisons with feedback a new annotator passes first; 0: none.")
    )
    training_pass_share = models.FloatField(default=0.7, validators=[MinValueValidator(0.0), MaxValueValidator(1.0)])

    members_only = models.BooleanField(default=False)
    members = models.ManyToManyField(User, through="PoolMember", related_name="pools")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(condition=Q(k__gte=2, k__lte=9), name="pool_k_2_to_9"),
            models.CheckConstraint(condition=Q(overlap__gte=1), name="pool_overlap_positive"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def guidelines(self) -> "GuidelineVersion | None":
        return self.guideline_versions.order_by("-version").first()


class PoolMember(models.Model):
    """A person's place in a pool: invited to it, or working in it; qualified, where the pool asks for that."""

    pool = models.ForeignKey(PromptPool, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    qualified_at = models.DateTimeField(null=True, blank=True)
    training_right = models.PositiveSmallIntegerField(default=0)
    training_seen = models.PositiveSmallIntegerField(default=0)
    joined_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["pool", "user"], name="member_once")]

    def __str__(self) -> str:
        return f"{self.user} in {self.pool}"


class GuidelineVersion(models.Model):
    """Guidelines are never edited: a change is a new version, and a ranking names the one its annotator saw."""

    pool = models.ForeignKey(PromptPool, on_delete=models.CASCADE, related_name="guideline_versions")
    version = models.PositiveIntegerField()
    text = models.TextField()
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pool", "-version"]
        constraints = [models.UniqueConstraint(fields=["pool", "version"], name="guideline_version_once")]

    def __str__(self) -> str:
        return f"{self.pool}, version {self.version}"


class Prompt(models.Model):
    """A conversation that waits for its next message."""

    pool = models.ForeignKey(PromptPool, on_delete=models.CASCADE, related_name="prompts")
    messages = models.JSONField()
    language = models.CharField(max_length=12, default="en")
    tags = ArrayField(models.CharField(max_length=40), default=list, blank=True)
    source_id = models.CharField(max_length=200, blank=True)
    content_hash = models.CharField(max_length=64, editable=False)
    is_held_out = models.BooleanField(default=False, editable=False)
    retired_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["pool", "content_hash"], name="prompt_once_per_pool")]

    def __str__(self) -> str:
        return Truncator(self.messages[-1]["content"]).chars(80)

    def save(self, *args, **kwargs):
        self.set_content_hash()
        super().save(*args, **kwargs)

    def set_content_hash(self) -> None:
        """Hash the messages; the same hash decides, once and for ever, whether the prompt is held out."""
        self.content_hash = content_hash(self.messages)
        self.is_held_out = int(self.content_hash[:8], 16) < HELD_OUT_SHARE * 2**32


def content_hash(messages: list[dict]) -> str:
    """SHA-256 of the conversation, with white space at the ends of a message ignored."""
    plain = [[m["role"], m["content"].strip()] for m in messages]
    return hashlib.sha256(json.dumps(plain, ensure_ascii=False).encode()).hexdigest()
