"""Pools and their prompts: what annotators may work in, what managers set."""

from django.db import transaction
from django.db.models import OuterRef, QuerySet, Subquery, TextField, Value
from django.db.models.functions import Coalesce
from django.utils.translation import gettext as _
from drf_spectacular.utils import PolymorphicProxySerializer, extend_schema
from rest_framework import serializers, status
from rest_framework.generics import GenericAPIView, get_object_or_404
from rest_framework.response import Response

from annotate.api.errors import ERRORS
from annotate.api.permissions import EverybodyReadsManagersWrite
from annotate.api.strict import FiniteField, StrictModelSerializer, StrictSerializer, checked
from annotate.models import GuidelineVersion, Policy, PromptPool
from annotate.progress import pools_with_counts
from annotate.roles import MAY_RESEARCH, has_role
from annotate.selectors import workable_pools
from annotate.services.pools import change_pool, make_pool, pause_pool, resume_pool, write_guidelines

SETTABLE = (PromptPool.Status.ACTIVE, PromptPool.Status.PAUSED)


class SamplingSerializer(StrictSerializer):
    """With the bounds of the manager's page."""

    temperature = FiniteField(min_value=0.0, max_value=2.0)
    top_p = FiniteField(min_value=0.01, max_value=1.0)
    max_new_tokens = serializers.IntegerField(min_value=1, max_value=2048)


class WordsField(serializers.ListField):
    def __init__(self, **kwargs):
        super().__init__(child=serializers.CharField(max_length=40), max_length=20, **kwargs)


class WorkablePoolSerializer(serializers.ModelSerializer):
    """What an annotator sees of a pool: not how often an answer is known already."""

    guidelines = serializers.CharField(source="guidelines_text", read_only=True)
    status_reason = serializers.SerializerMethodField()

    class Meta:
        model = PromptPool
        fields = ("id", "name", "description", "language", "status", "status_reason", "k", "ties_allowed", "guidelines")

    def get_status_reason(self, _pool: PromptPool) -> str:
        """Empty: of an open pool it says why the model cannot write, with paths of the machine."""
        return ""


class PoolSerializer(StrictModelSerializer):
    policy = serializers.PrimaryKeyRelatedField(queryset=Policy.objects.all())
    status = serializers.ChoiceField(choices=PromptPool.Status.choices, required=False)
    status_reason = serializers.CharField(required=False, allow_blank=True, max_length=500)
    sampling = SamplingSerializer(required=False)
    axes = WordsField(required=False)
    flags = WordsField(required=False)
    rationale_chips = WordsField(required=False)
    buffer_size = serializers.IntegerField(min_value=1, max_value=10_000, required=False)
    guidelines = serializers.CharField(required=False, allow_blank=True, max_length=50_000)
    prompt_count = serializers.IntegerField(read_only=True)
    ready_count = serializers.IntegerField(read_only=True)
    ranking_count = serializers.IntegerField(read_only=True)

    class Meta:
        model = PromptPool
        fields = (
            *("id", "name", "description", "policy", "language", "status", "status_reason"),
            *("k", "overlap", "buffer_size", "lease_minutes", "sampling", "incumbent_share"),
            *("ties_allowed", "strength_scale", "axes", "flags", "rationale_chips"),
            *("asks_rationale", "asks_spans", "asks_better_answer"),
            *("gold_share", "training_count", "training_pass_share", "members_only"),
            *("guidelines", "prompt_count", "ready_count", "ranking_count", "created_at"),
        )
        read_only_fields = ("created_at",)

    def get_fields(self) -> dict:
        """`guidelines` is read as the newest version's text and written as a new version."""
        fields = super().get_fields()
        if not hasattr(self, "initial_data"):
            fields["guidelines"] = serializers.CharField(source="guidelines_text", read_only=True)
        return fields

    def validate_status(self, status: str) -> str:
        if status not in SETTABLE:
            raise serializers.ValidationError(_("A pool can be made active or paused."))
        return status

    def validate_strength_scale(self, steps: int) -> int:
        if steps == 1:
            raise serializers.ValidationError(_("One step says nothing: 0 not to ask, or 2 to 4."))
        return steps


def with_guidelines(pools: QuerySet[PromptPool]) -> QuerySet[PromptPool]:
    newest = GuidelineVersion.objects.filter(pool=OuterRef("pk")).order_by("-version").values("text")[:1]
    return pools.annotate(guidelines_text=Coalesce(Subquery(newest), Value(""), output_field=TextField()))


def all_pools() -> QuerySet[PromptPool]:
    return with_guidelines(pools_with_counts())


class Pools(GenericAPIView):
    permission_classes = [EverybodyReadsManagersWrite]
    serializer_class = PoolSerializer

    @extend_schema(
        summary="Pools: all of them, or for an annotator those to work in",
        responses=PolymorphicProxySerializer(
            "AnyPool", [PoolSerializer, WorkablePoolSerializer], resource_type_field_name=None, many=True
        ),
    )
    def get(self, request):
        sees_all = has_role(request.user, MAY_RESEARCH)
        pools = all_pools() if sees_all else with_guidelines(workable_pools(request.user))
        page = self.paginate_queryset(pools.order_by("name"))
        serializer = PoolSerializer if sees_all else WorkablePoolSerializer
        return self.get_paginated_response(serializer(page, many=True).data)

    @extend_schema(summary="Make a pool", responses={201: PoolSerializer, **ERRORS})
    def post(self, request):
        fields = checked(PoolSerializer, request).validated_data
        changes = {name: fields.pop(name) for name in ("status", "status_reason") if name in fields}
        with transaction.atomic():
            pool = make_pool(by=request.user, **fields)
            set_status(pool, changes, request.user)
        return Response(PoolSerializer(all_pools().get(pk=pool.pk)).data, status=status.HTTP_201_CREATED)


class PoolDetail(GenericAPIView):
    permission_classes = [EverybodyReadsManagersWrite]
    serializer_class = PoolSerializer

    @extend_schema(summary="One pool")
    def get(self, request, pk: int):
        if has_role(request.user, MAY_RESEARCH):
            return Response(PoolSerializer(get_object_or_404(all_pools(), pk=pk)).data)
        pools = with_guidelines(workable_pools(request.user))
        return Response(WorkablePoolSerializer(get_object_or_404(pools, pk=pk)).data)

    @extend_schema(
        summary="Change a pool, pause it, resume it, write new guidelines",
        request=PoolSerializer(partial=True),
        responses={200: PoolSerializer, **ERRORS},
    )
    def patch(self, request, pk: int):
        pool = get_object_or_404(PromptPool, pk=pk)
        fields = checked(PoolSerializer, request, instance=pool, partial=True).validated_data
        changes = {name: fields.pop(name) for name in ("status", "status_reason") if name in fields}
        guidelines = fields.pop("guidelines", "")
        with transaction.atomic():
            if fields:
                change_pool(pool=pool, by=request.user, **fields)
            if guidelines.strip():
                write_guidelines(pool=pool, text=guidelines, by=request.user)
            set_status(pool, changes, request.user)
        return Response(PoolSerializer(all_pools().get(pk=pk)).data)


def set_status(pool: PromptPool, changes: dict, by) -> None:
    if changes.get("status") == PromptPool.Status.PAUSED:
        pause_pool(pool=pool, reason=changes.get("status_reason", ""), by=by)
    elif changes.get("status") == PromptPool.Status.ACTIVE:
        resume_pool(pool=pool, by=by)
