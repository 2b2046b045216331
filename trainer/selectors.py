"""Reads about runs."""

from annotate.models import Policy, PolicyCheckpoint


def incumbent(policy: Policy) -> PolicyCheckpoint | None:
    """The checkpoint to measure the serving one against: its parent, which it replaced."""
    return policy.serving.parent
