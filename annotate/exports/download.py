"""An export as a download, for the page and the API alike."""

from django.http import StreamingHttpResponse
from django.utils import timezone

from annotate.exports import export_chunks
from annotate.exports.files import MEDIA_TYPES
from annotate.preferences import PreferenceFilters


def export_response(*, format: str, file_type: str, filters: PreferenceFilters) -> StreamingHttpResponse:
    """Stream an export. Raises WrongFilter before anything is sent.

    What goes wrong later breaks the connection off before its last chunk, so that no client takes half a file for a
    whole one.
    """
    chunks = export_chunks(format=format, file_type=file_type, filters=filters)
    response = StreamingHttpResponse(chunks, content_type=MEDIA_TYPES[file_type])
    response["Content-Disposition"] = f'attachment; filename="{file_name(format, file_type, filters)}"'
    response["X-Accel-Buffering"] = "no"  # a proxy that collects the whole file first helps nobody
    return response


def file_name(format: str, file_type: str, filters: PreferenceFilters) -> str:
    split = f"-{filters.split}" if filters.split else ""
    return f"whetstone-{format}{split}-{timezone.now():%Y-%m-%d}.{file_type}"
