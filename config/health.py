"""/healthz and /readyz, for supervisors, load balancers and `launch`. Anybody may ask; nothing they say is private."""

import redis
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from annotate.selectors import buffer_progress
from config.heartbeat import PROGRAMS, living_programs


@require_safe
@never_cache
def healthz(request: HttpRequest) -> HttpResponse:
    """This process answers."""
    return HttpResponse("ok\n", content_type="text/plain")


@require_safe
@never_cache
def readyz(request: HttpRequest) -> JsonResponse:
    """Database, broker, every kind of worker and the clock; 503 where one is missing. And how full the buffers are."""
    state = {"database": True, "broker": True, "programs": dict.fromkeys(PROGRAMS, False), "buffer": None}
    try:
        ready, wanted = buffer_progress()
        state["buffer"] = {"ready": ready, "wanted": wanted}
    except DatabaseError:
        connection.close()
        state["database"] = False
    try:
        state["programs"] |= dict.fromkeys(living_programs(), True)
    except redis.RedisError:
        state["broker"] = False
    is_ready = state["database"] and state["broker"] and all(state["programs"].values())
    response = JsonResponse({"ready": is_ready, **state}, status=200 if is_ready else 503)
    response._has_been_logged = True  # Django would log each 503 as an error, at every question of a load balancer
    return response
