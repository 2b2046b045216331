"""Where a checkpoint comes from, and what a person's answers went into. Reads only.

The run between a checkpoint and its snapshot belongs to `trainer`; its tables are followed by name, nothing of it is
imported. From a ranking to its runs: `trainer.lineage`.
"""

from django.db.models import QuerySet

from annotate.models import GuidelineVersion, PolicyCheckpoint, Ranking, User


def with_ancestors(checkpoint: PolicyCheckpoint) -> list[PolicyCheckpoint]:
    """The checkpoint, its parent, its parent's parent, … to the base."""
    line = []
    while checkpoint is not None:
        line.append(checkpoint)
        checkpoint = checkpoint.parent
    return line


def rankings_behind(checkpoint: PolicyCheckpoint) -> QuerySet[Ranking]:
    """Every ranking that the checkpoint or one of its ancestors was trained on.

    `annotate.preferences.ranking_rows` gives each with its annotator, display positions and guideline version.
    """
    return Ranking.objects.filter(snapshots__runs__candidate__in=with_ancestors(checkpoint)).distinct()


def annotators_behind(checkpoint: PolicyCheckpoint) -> QuerySet[User]:
    return User.objects.filter(rankings__in=rankings_behind(checkpoint).values("id")).distinct()


def guideline_versions_behind(checkpoint: PolicyCheckpoint) -> QuerySet[GuidelineVersion]:
    rankings = rankings_behind(checkpoint).values("id")
    return GuidelineVersion.objects.filter(assignment__rankings__in=rankings).distinct()


def checkpoints_touched_by(annotator: User) -> list[PolicyCheckpoint]:
    """The checkpoints trained on a person's rankings, and all that descend from them, oldest first."""
    trained = PolicyCheckpoint.objects.filter(run__snapshot__rankings__annotator=annotator)
    touched = set(trained.values_list("id", flat=True))
    newest = touched
    while newest:
        children = PolicyCheckpoint.objects.filter(parent__in=newest).values_list("id", flat=True)
        newest = set(children) - touched
        touched |= newest
    return list(PolicyCheckpoint.objects.filter(pk__in=touched).select_related("policy").order_by("id"))
