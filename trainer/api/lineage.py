"""Where a checkpoint comes from, and what an answer went into."""

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.generics import get_object_or_404
from rest_framework.response import Response
from rest_framework.views import APIView

from annotate.api.errors import ERRORS
from annotate.api.permissions import MayResearch
from annotate.lineage import annotators_behind, guideline_versions_behind, rankings_behind, with_ancestors
from annotate.models import PolicyCheckpoint, PreferenceSnapshot, Ranking
from trainer.api.runs import RunSerializer, runs_with_names
from trainer.lineage import runs_that_used


class GuidelineSerializer(serializers.Serializer):
    pool = serializers.CharField(source="pool.name")
    version = serializers.IntegerField()


class LineageSerializer(serializers.Serializer):
    """`GET /api/v1/preferences/?format=rankings&snapshot=…` has the rankings themselves, with display positions."""

    checkpoints = serializers.ListField(child=serializers.CharField(), help_text="Itself first, the base last.")
    snapshots = serializers.ListField(child=serializers.IntegerField(), help_text="What they were trained on.")
    rankings = serializers.IntegerField()
    annotators = serializers.ListField(child=serializers.CharField(), help_text="Pseudonyms.")
    guidelines = GuidelineSerializer(many=True)


class CheckpointLineage(APIView):
    permission_classes = [MayResearch]

    @extend_schema(summary="What and who is behind a checkpoint", responses={200: LineageSerializer, **ERRORS})
    def get(self, request, pk: int):
        line = with_ancestors(get_object_or_404(PolicyCheckpoint.objects.select_related("policy"), pk=pk))
        snapshots = PreferenceSnapshot.objects.filter(runs__candidate__in=line).order_by("id")
        lineage = {
            "checkpoints": [checkpoint.name for checkpoint in line],
            "snapshots": snapshots.values_list("id", flat=True),
            "rankings": rankings_behind(line[0]).count(),
            "annotators": annotators_behind(line[0]).order_by("pseudonym").values_list("pseudonym", flat=True),
            "guidelines": guideline_versions_behind(line[0]).select_related("pool"),
        }
        return Response(LineageSerializer(lineage).data)


class RankingRuns(APIView):
    permission_classes = [MayResearch]

    @extend_schema(summary="Every run that used a ranking", responses={200: RunSerializer(many=True), **ERRORS})
    def get(self, request, pk: int):
        used = runs_that_used(get_object_or_404(Ranking, pk=pk))
        return Response(RunSerializer(runs_with_names().filter(pk__in=used).order_by("id"), many=True).data)
