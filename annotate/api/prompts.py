"""The prompts of a pool: the list, and files of them."""

from tempfile import SpooledTemporaryFile

from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers, status
from rest_framework.generics import GenericAPIView, get_object_or_404
from rest_framework.parsers import BaseParser, MultiPartParser
from rest_framework.response import Response

from annotate.api.errors import ERRORS
from annotate.api.permissions import MayManage, ResearchersReadManagersWrite
from annotate.api.strict import StrictSerializer, checked
from annotate.models import Prompt, PromptPool
from annotate.services.imports import FORMATS, LARGEST_FILE, ImportReport, WrongFile, format_of, import_prompts
from annotate.services.pools import restore_prompt, retire_prompt

MEMORY_BYTES = 2**20
CHUNK_BYTES = 2**16


class PromptSerializer(serializers.Serializer):
    id = serializers.IntegerField()
    messages = serializers.JSONField()
    language = serializers.CharField()
    tags = serializers.ListField(child=serializers.CharField())
    source_id = serializers.CharField()
    is_held_out = serializers.BooleanField(help_text="Never trained on.")
    retired_at = serializers.DateTimeField(allow_null=True)


class BadRowSerializer(serializers.Serializer):
    line = serializers.IntegerField()
    reason = serializers.CharField()


class ImportReportSerializer(serializers.Serializer):
    """With a single bad row nothing is imported."""

    rows = serializers.IntegerField()
    added = serializers.IntegerField()
    duplicates = serializers.IntegerField()
    bad = serializers.IntegerField()
    bad_rows = BadRowSerializer(many=True, help_text="The first 200.")
    ignored = serializers.ListField(child=serializers.CharField(), help_text="Columns nobody asked for.")


class FileParser(BaseParser):
    """A body that is the file itself, kept on disk where it is large. Gives {"file", "format"}."""

    format: str

    def parse(self, stream, media_type=None, parser_context=None) -> dict:
        file = SpooledTemporaryFile(max_size=MEMORY_BYTES)  # noqa: SIM115 (the view closes it)
        while chunk := stream.read(CHUNK_BYTES):
            file.write(chunk)
            if file.tell() > LARGEST_FILE:
                break  # the import says that it is too large
        file.seek(0)
        return {"file": file, "format": self.format}


class JsonlParser(FileParser):
    media_type, format = "application/jsonl", "jsonl"


class NdjsonParser(FileParser):
    media_type, format = "application/x-ndjson", "jsonl"


class CsvParser(FileParser):
    media_type, format = "text/csv", "csv"


class ParquetParser(FileParser):
    media_type, format = "application/vnd.apache.parquet", "parquet"


class PoolPrompts(GenericAPIView):
    permission_classes = [ResearchersReadManagersWrite]
    parser_classes = [JsonlParser, NdjsonParser, CsvParser, ParquetParser, MultiPartParser]
    serializer_class = PromptSerializer

    @extend_schema(
        summary="The prompts of a pool",
        parameters=[OpenApiParameter("tag", str), OpenApiParameter("language", str)],
        responses=PromptSerializer(many=True),
    )
    def get(self, request, pk: int):
        prompts = get_object_or_404(PromptPool, pk=pk).prompts.order_by("id")
        for name, lookup in (("tag", "tags__contains"), ("language", "language")):
            value = request.query_params.get(name, "").replace("\0", "")
            if value:
                prompts = prompts.filter(**{lookup: [value] if name == "tag" else value})
        return self.get_paginated_response(PromptSerializer(self.paginate_queryset(prompts), many=True).data)

    @extend_schema(
        summary="Import prompts from a file, all of them or none",
        description="The body is the file itself, or a form with the field `file`, and `format` where its name does "
        "not say. A row has `messages` or `prompt`, and may have `language`, `tags` and `source_id`.",
        request=dict.fromkeys(("application/jsonl", "text/csv"), OpenApiTypes.BINARY)
        | {"application/vnd.apache.parquet": OpenApiTypes.BINARY}
        | {"multipart/form-data": {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}}},
        responses={
            201: ImportReportSerializer,
            **ERRORS,
            422: OpenApiResponse(ImportReportSerializer, "Rows that are not right; nothing was imported."),
        },
    )
    def post(self, request, pk: int):
        pool = get_object_or_404(PromptPool, pk=pk)
        file = request.data.get("file")
        if file is None or isinstance(file, str):
            raise WrongFile(_("Send a file."))
        with file:
            report = import_prompts(pool=pool, file=file, format=format_named(request, file), actor=request.user)
        return reported(report)


class RetireSerializer(StrictSerializer):
    retired = serializers.BooleanField(help_text="A retired prompt is asked no more.")


class PoolPromptDetail(GenericAPIView):
    permission_classes = [MayManage]
    serializer_class = PromptSerializer

    @extend_schema(
        summary="Retire a prompt, or take it back",
        request=RetireSerializer,
        responses={200: PromptSerializer, **ERRORS},
    )
    def patch(self, request, pk: int, prompt: int):
        found = get_object_or_404(Prompt.objects.select_related("pool"), pk=prompt, pool=pk)
        change = retire_prompt if checked(RetireSerializer, request).validated_data["retired"] else restore_prompt
        change(prompt=found, by=request.user)
        return Response(PromptSerializer(found).data)


def format_named(request, file) -> str:
    named = request.data.get("format") or format_of(getattr(file, "name", None) or "")
    if not isinstance(named, str) or named not in FORMATS:
        raise WrongFile(_("Say the format: %(formats)s.") % {"formats": ", ".join(FORMATS)})
    return named


def reported(report: ImportReport) -> Response:
    body = ImportReportSerializer(report).data
    if report.is_imported:
        return Response(body, status=status.HTTP_201_CREATED)
    first = report.bad_rows[0]
    detail = _("Nothing was imported. Line %(line)d: %(reason)s") % {"line": first.line, "reason": first.reason}
    return Response({"code": "bad_rows", "detail": detail} | body, status=status.HTTP_422_UNPROCESSABLE_ENTITY)
