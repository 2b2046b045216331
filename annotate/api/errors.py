"""One place where what went wrong becomes JSON: a code, a sentence, and the HTTP status."""

from collections.abc import Mapping

from django.core.exceptions import ValidationError as DjangoValidationError
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiResponse
from rest_framework import serializers, status
from rest_framework.exceptions import ValidationError
from rest_framework.response import Response
from rest_framework.views import exception_handler

from annotate.errors import Conflict, Refused


class ErrorSerializer(serializers.Serializer):
    code = serializers.CharField()
    detail = serializers.CharField(help_text="A sentence.")
    fields = serializers.DictField(required=False, help_text="Of a 400: what is wrong with which field.")


ERRORS = {
    400: OpenApiResponse(ErrorSerializer, "The body is not right."),
    401: OpenApiResponse(ErrorSerializer, "Not signed in."),
    403: OpenApiResponse(ErrorSerializer, "Your role does not allow it."),
    404: OpenApiResponse(ErrorSerializer, "There is no such thing."),
    409: OpenApiResponse(ErrorSerializer, "Somebody was quicker, or the lease is over."),
    422: OpenApiResponse(ErrorSerializer, "It cannot be done as it is."),
}


def as_json(error, context):
    if isinstance(error, DjangoValidationError):
        error = ValidationError(error.message_dict if hasattr(error, "error_dict") else error.messages)
    if isinstance(error, Refused):
        code = status.HTTP_409_CONFLICT if isinstance(error, Conflict) else status.HTTP_422_UNPROCESSABLE_ENTITY
        return Response({"code": error.code, "detail": str(error), **error.extra}, status=code)
    response = exception_handler(error, context)
    if response is not None and isinstance(response.data, dict) and "detail" in response.data:
        response.data["code"] = getattr(response.data["detail"], "code", "error")
    elif response is not None:
        response.data = {"code": "invalid", "detail": first_sentence(response.data), "fields": response.data}
    return response


def first_sentence(errors) -> str:
    """The first thing that is wrong, with the name of its field."""
    path = []
    while isinstance(errors, (Mapping, list)) and errors:
        if isinstance(errors, Mapping):
            name, errors = next(iter(errors.items()))
            path.append(str(name))
        else:
            errors = next((each for each in errors if each), "")
    names = ".".join(name for name in path if name != "non_field_errors")
    return f"{names}: {errors}" if names else str(errors) or _("Some fields are not right.")
