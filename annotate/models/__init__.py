"""The human side's data: who, what was asked, what was written, what people said of it."""

from annotate.models.comparisons import Assignment, Comparison, Completion, Ranking
from annotate.models.datasets import AuditEvent, Demonstration, PreferenceSnapshot
from annotate.models.people import Invitation, User
from annotate.models.policies import Policy, PolicyCheckpoint
from annotate.models.pools import GuidelineVersion, PoolMember, Prompt, PromptPool

__all__ = [
    "Assignment",
    "AuditEvent",
    "Comparison",
    "Completion",
    "Demonstration",
    "GuidelineVersion",
    "Invitation",
    "Policy",
    "PolicyCheckpoint",
    "PoolMember",
    "PreferenceSnapshot",
    "Prompt",
    "PromptPool",
    "Ranking",
    "User",
]
