"""Runs: how far, how well, and how to end or resume one."""

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.generics import GenericAPIView, get_object_or_404
from rest_framework.response import Response
from rest_framework.views import APIView

from annotate.api.errors import ERRORS
from annotate.api.permissions import MayManage, MayResearch
from annotate.api.strict import EmptySerializer, checked
from annotate.preferences import whole_number
from trainer.models import TrainingRun
from trainer.services import cancel_run, resume_run


class RunSerializer(serializers.Serializer):
    id = serializers.IntegerField()
    policy = serializers.IntegerField(source="policy_id")
    status = serializers.CharField()
    stage = serializers.CharField()
    step = serializers.IntegerField()
    steps = serializers.IntegerField()
    seconds_left = serializers.FloatField(allow_null=True)
    message = serializers.CharField()
    parent = serializers.CharField(source="parent.name", default=None, allow_null=True)
    candidate = serializers.CharField(source="candidate.name", default=None, allow_null=True)
    snapshot = serializers.IntegerField(source="snapshot_id", allow_null=True)
    verdict = serializers.JSONField()
    reason = serializers.CharField(help_text="Why it failed or was rejected, in words.")
    can_retry = serializers.BooleanField()
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)


class MetricSerializer(serializers.Serializer):
    id = serializers.IntegerField()
    stage = serializers.CharField()
    step = serializers.IntegerField()
    values = serializers.JSONField()
    created_at = serializers.DateTimeField()


def runs_with_names() -> QuerySet[TrainingRun]:
    """Without what a checkpoint was measured at: its samples alone are long."""
    runs = TrainingRun.objects.select_related("parent__policy", "candidate__policy")
    return runs.defer("parent__metrics", "candidate__metrics")


class Runs(GenericAPIView):
    permission_classes = [MayResearch]
    serializer_class = RunSerializer

    @extend_schema(summary="Runs, newest first", responses=RunSerializer(many=True))
    def get(self, request):
        page = self.paginate_queryset(runs_with_names().order_by("-id"))
        return self.get_paginated_response(RunSerializer(page, many=True).data)


class RunDetail(APIView):
    permission_classes = [MayResearch]

    @extend_schema(summary="One run", responses={200: RunSerializer, **ERRORS})
    def get(self, request, pk: int):
        return Response(RunSerializer(get_object_or_404(runs_with_names(), pk=pk)).data)


class RunMetrics(GenericAPIView):
    permission_classes = [MayResearch]
    serializer_class = MetricSerializer

    @extend_schema(
        summary="What a run measured, step by step",
        parameters=[OpenApiParameter("after", int, description="Only what came after the metric of this number.")],
        responses=MetricSerializer(many=True),
    )
    def get(self, request, pk: int):
        metrics = get_object_or_404(TrainingRun, pk=pk).metrics.order_by("id")
        if after := request.query_params.get("after"):
            metrics = metrics.filter(pk__gt=whole_number("after", after))
        return self.get_paginated_response(MetricSerializer(self.paginate_queryset(metrics), many=True).data)


class RunCancel(APIView):
    permission_classes = [MayManage]

    @extend_schema(
        summary="End a run; its state is kept", request=EmptySerializer, responses={200: RunSerializer, **ERRORS}
    )
    def post(self, request, pk: int):
        checked(EmptySerializer, request)
        cancel_run(run=get_object_or_404(TrainingRun, pk=pk), by=request.user)
        return Response(RunSerializer(runs_with_names().get(pk=pk)).data)


class RunResume(APIView):
    permission_classes = [MayManage]

    @extend_schema(
        summary="Take a failed or cancelled run up again",
        request=EmptySerializer,
        responses={200: RunSerializer, **ERRORS},
    )
    def post(self, request, pk: int):
        checked(EmptySerializer, request)
        resume_run(run=get_object_or_404(TrainingRun, pk=pk), by=request.user)
        return Response(RunSerializer(runs_with_names().get(pk=pk)).data)
