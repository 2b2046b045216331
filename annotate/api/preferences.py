"""Preference data for programs: exports, and the snapshots that freeze it."""

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.generics import GenericAPIView, get_object_or_404
from rest_framework.response import Response
from rest_framework.views import APIView

from annotate.api.errors import ERRORS
from annotate.api.permissions import MayResearch
from annotate.api.strict import IdField, StrictSerializer, checked
from annotate.dataset_card import dataset_card
from annotate.exports import FORMATS
from annotate.exports.download import export_response
from annotate.exports.files import FILE_TYPES
from annotate.models import Policy, PreferenceSnapshot
from annotate.preferences import SPLITS, PreferenceFilters
from annotate.services.snapshots import freeze_preferences

FILTERS = [
    OpenApiParameter("policy", str, description="Number or name."),
    OpenApiParameter("pool", int),
    OpenApiParameter("since", str, description="A day or a time; answers from then on."),
    OpenApiParameter("until", str, description="A day or a time; answers before it."),
    OpenApiParameter("language", str),
    OpenApiParameter("tag", str),
    OpenApiParameter("split", str, enum=SPLITS),
    OpenApiParameter("min_strength", int),
    OpenApiParameter("snapshot", int, description="The rankings of a snapshot."),
]


class Preferences(APIView):
    permission_classes = [MayResearch]

    @extend_schema(
        summary="Export preferences",
        description="Streams. A connection that ends before the last chunk means that the file is not whole.",
        parameters=[
            OpenApiParameter("format", str, enum=list(FORMATS), default="trl"),
            OpenApiParameter("file", str, enum=list(FILE_TYPES), default="jsonl"),
            *FILTERS,
        ],
        responses={(200, "application/jsonl"): OpenApiTypes.BINARY, **ERRORS},
    )
    def get(self, request):
        values = request.query_params.dict()
        chosen = {"format": values.pop("format", "trl"), "file_type": values.pop("file", "jsonl")}
        return export_response(**chosen, filters=PreferenceFilters.from_values(values))


class SnapshotSerializer(serializers.Serializer):
    id = serializers.IntegerField()
    policy = serializers.IntegerField(source="policy_id")
    size = serializers.IntegerField(help_text="Rankings.")
    content_hash = serializers.CharField(help_text="SHA-256 of the rankings.jsonl that a run of it reads.")
    filters = serializers.JSONField()
    note = serializers.CharField()
    created_at = serializers.DateTimeField()


class FreezeSerializer(StrictSerializer):
    policy = IdField()
    filters = serializers.DictField(default=dict, help_text="As the query of an export, without policy and snapshot.")
    note = serializers.CharField(default="", allow_blank=True, max_length=1000)


class Snapshots(GenericAPIView):
    permission_classes = [MayResearch]
    serializer_class = SnapshotSerializer

    @extend_schema(summary="Frozen data sets", responses=SnapshotSerializer(many=True))
    def get(self, request):
        page = self.paginate_queryset(PreferenceSnapshot.objects.order_by("-id"))
        return self.get_paginated_response(SnapshotSerializer(page, many=True).data)

    @extend_schema(
        summary="Freeze the rankings there are", request=FreezeSerializer, responses={201: SnapshotSerializer, **ERRORS}
    )
    def post(self, request):
        asked = checked(FreezeSerializer, request).validated_data
        snapshot = freeze_preferences(
            policy=get_object_or_404(Policy, pk=asked["policy"]),
            filters=asked["filters"],
            created_by=request.user,
            note=asked["note"],
        )
        return Response(SnapshotSerializer(snapshot).data, status=status.HTTP_201_CREATED)


class SnapshotDetail(APIView):
    permission_classes = [MayResearch]

    @extend_schema(summary="One frozen data set", responses={200: SnapshotSerializer, **ERRORS})
    def get(self, request, pk: int):
        return Response(SnapshotSerializer(get_object_or_404(PreferenceSnapshot, pk=pk)).data)


class SnapshotCard(APIView):
    permission_classes = [MayResearch]

    @extend_schema(
        summary="The card that goes with the data, a README.md",
        responses={(200, "text/markdown"): OpenApiTypes.STR, **ERRORS},
    )
    def get(self, request, pk: int):
        snapshot = get_object_or_404(PreferenceSnapshot.objects.select_related("policy"), pk=pk)
        return HttpResponse(dataset_card(snapshot), content_type="text/markdown; charset=utf-8")
