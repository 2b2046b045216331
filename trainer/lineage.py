"""From a ranking to every run that used it. The other direction is `annotate.lineage`."""

from django.db.models import QuerySet

from annotate.models import Ranking
from trainer.models import TrainingRun


def runs_that_used(ranking: Ranking) -> QuerySet[TrainingRun]:
    return TrainingRun.objects.filter(snapshot__rankings=ranking).order_by("id")
