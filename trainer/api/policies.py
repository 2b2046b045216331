"""Policies and their checkpoints; a turn of the loop by hand; which checkpoint serves."""

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.generics import GenericAPIView, get_object_or_404
from rest_framework.response import Response
from rest_framework.views import APIView

from annotate.api.errors import ERRORS
from annotate.api.permissions import MayManage, MayResearch
from annotate.api.strict import checked
from annotate.models import Policy, PolicyCheckpoint
from trainer.api.runs import EmptySerializer, RunSerializer, runs_with_names
from trainer.services import roll_back, start_run


class PolicySerializer(serializers.Serializer):
    id = serializers.IntegerField()
    name = serializers.CharField()
    base_model = serializers.CharField()
    retrain_after = serializers.IntegerField(help_text="New rankings that start the next turn; 0: none by itself.")
    recipe = serializers.JSONField()
    gate = serializers.JSONField()
    created_at = serializers.DateTimeField()


class CheckpointSerializer(serializers.Serializer):
    id = serializers.IntegerField()
    name = serializers.CharField()
    number = serializers.IntegerField()
    parent = serializers.IntegerField(source="parent_id", allow_null=True)
    status = serializers.CharField()
    status_reason = serializers.CharField()
    metrics = serializers.JSONField()
    created_at = serializers.DateTimeField()


class Policies(GenericAPIView):
    permission_classes = [MayResearch]
    serializer_class = PolicySerializer

    @extend_schema(summary="Policies", responses=PolicySerializer(many=True))
    def get(self, request):
        page = self.paginate_queryset(Policy.objects.order_by("name"))
        return self.get_paginated_response(PolicySerializer(page, many=True).data)


class PolicyCheckpoints(GenericAPIView):
    permission_classes = [MayResearch]
    serializer_class = CheckpointSerializer

    @extend_schema(summary="The checkpoints of a policy, oldest first", responses=CheckpointSerializer(many=True))
    def get(self, request, pk: int):
        policy = get_object_or_404(Policy, pk=pk)
        page = self.paginate_queryset(policy.checkpoints.select_related("policy").order_by("number"))
        return self.get_paginated_response(CheckpointSerializer(page, many=True).data)


class PolicyRuns(GenericAPIView):
    permission_classes = [MayManage]
    serializer_class = RunSerializer

    @extend_schema(
        summary="Start a turn of the loop", request=EmptySerializer, responses={201: RunSerializer, **ERRORS}
    )
    def post(self, request, pk: int):
        checked(EmptySerializer, request)
        run = start_run(policy=get_object_or_404(Policy, pk=pk), started_by=request.user)
        return Response(RunSerializer(runs_with_names().get(pk=run.pk)).data, status=status.HTTP_201_CREATED)


class CheckpointRollBack(APIView):
    permission_classes = [MayManage]

    @extend_schema(
        summary="Let this checkpoint serve again",
        request=EmptySerializer,
        responses={200: CheckpointSerializer, **ERRORS},
    )
    def post(self, request, pk: int):
        checked(EmptySerializer, request)
        checkpoints = PolicyCheckpoint.objects.select_related("policy")
        roll_back(checkpoint=get_object_or_404(checkpoints, pk=pk), by=request.user)
        return Response(CheckpointSerializer(checkpoints.get(pk=pk)).data)
