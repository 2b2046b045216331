"""Addresses under /api/ that are none: a sentence in JSON, not a page."""

from django.http import JsonResponse
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt


@csrf_exempt
def api_nothing(request, rest: str) -> JsonResponse:
    detail = _("There is no such call. Is the slash at the end missing? /api/ lists them all.")
    return JsonResponse({"code": "not_found", "detail": detail}, status=404)
