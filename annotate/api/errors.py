"""One place where what went wrong becomes JSON: a code, a sentence, and the HTTP status."""

from rest_framework import status
from rest_framework.response import Response
from rest_framework.views import exception_handler

from annotate.errors import Conflict, Refused


def as_json(error, context):
    if isinstance(error, Refused):
        code = status.HTTP_409_CONFLICT if isinstance(error, Conflict) else status.HTTP_422_UNPROCESSABLE_ENTITY
        return Response({"code": error.code, "detail": str(error), **error.extra}, status=code)
    response = exception_handler(error, context)
    if response is not None and isinstance(response.data, dict) and "detail" in response.data:
        response.data["code"] = getattr(response.data["detail"], "code", "error")
    elif response is not None:
        response.data = {"code": "invalid", "detail": "Some fields are not right.", "fields": response.data}
    return response
