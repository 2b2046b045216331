"""Policies and their checkpoints; a turn of the loop by hand; which checkpoint serves."""

import json

from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.generics import GenericAPIView, get_object_or_404
from rest_framework.response import Response
from rest_framework.views import APIView

from annotate.api.errors import ERRORS
from annotate.api.permissions import MayManage, MayResearch, ResearchersReadManagersWrite
from annotate.api.strict import EmptySerializer, FiniteField, StrictSerializer, checked
from annotate.models import Policy, PolicyCheckpoint
from annotate.services.policies import change_policy, make_policy
from trainer.api.runs import RunSerializer, runs_with_names
from trainer.forms import THRESHOLDS, NewPolicyForm, PolicyForm
from trainer.services import roll_back, start_run


class PolicySerializer(serializers.Serializer):
    id = serializers.IntegerField()
    name = serializers.CharField()
    base_model = serializers.CharField()
    retrain_after = serializers.IntegerField(help_text="New rankings that start the next turn; 0: none by itself.")
    recipe = serializers.JSONField()
    gate = serializers.JSONField()
    created_at = serializers.DateTimeField()


class PolicyChangeSerializer(StrictSerializer):
    retrain_after = serializers.IntegerField(min_value=0, max_value=10**6, required=False)
    recipe = serializers.DictField(required=False, help_text="What differs from the trainer's defaults.")
    gate = serializers.DictField(child=FiniteField(), required=False, help_text="What differs from the gate's.")


class NewPolicySerializer(PolicyChangeSerializer):
    name = serializers.SlugField(max_length=60)
    base_model = serializers.CharField(max_length=500, help_text="A Hugging Face id, or a folder of the workers.")


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
    permission_classes = [ResearchersReadManagersWrite]
    serializer_class = PolicySerializer

    @extend_schema(summary="Policies", responses=PolicySerializer(many=True))
    def get(self, request):
        page = self.paginate_queryset(Policy.objects.order_by("name"))
        return self.get_paginated_response(PolicySerializer(page, many=True).data)

    @extend_schema(summary="Make a policy", request=NewPolicySerializer, responses={201: PolicySerializer, **ERRORS})
    def post(self, request):
        asked = checked(NewPolicySerializer, request).validated_data
        form = filled(NewPolicyForm, {"retrain_after": 100} | asked, user=request.user)
        policy = make_policy(by=request.user, **form.values())
        return Response(PolicySerializer(policy).data, status=status.HTTP_201_CREATED)


class PolicyDetail(APIView):
    permission_classes = [MayManage]

    @extend_schema(
        summary="Change a policy; from the next run on",
        request=PolicyChangeSerializer,
        responses={200: PolicySerializer, **ERRORS},
    )
    def patch(self, request, pk: int):
        policy = get_object_or_404(Policy, pk=pk)
        asked = checked(PolicyChangeSerializer, request).validated_data
        now = {"retrain_after": policy.retrain_after, "recipe": policy.recipe, "gate": policy.gate}
        form = filled(PolicyForm, now | asked, instance=policy)
        return Response(PolicySerializer(change_policy(policy=policy, by=request.user, **form.values())).data)


def filled(form_class, values: dict, **options):
    """The manager's form with these values, so that recipe and gate are read as strictly as there."""
    gate = values.pop("gate", {})
    unknown = sorted(set(gate) - set(THRESHOLDS))
    if unknown:
        raise serializers.ValidationError({"gate": [_("There is no threshold “%(name)s”.") % {"name": unknown[0]}]})
    form = form_class(values | gate | {"recipe": json.dumps(values.get("recipe", {}))}, **options)
    if not form.is_valid():
        raise serializers.ValidationError(form.errors)
    return form


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
