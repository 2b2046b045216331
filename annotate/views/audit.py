"""The audit log: who changed what, newest first."""

from django.core.paginator import Paginator
from django.shortcuts import render

from annotate.models import AuditEvent, User
from annotate.roles import MAY_MANAGE
from annotate.views.access import needs

EVENTS_PER_PAGE = 100


@needs(MAY_MANAGE)
def audit(request):
    events = AuditEvent.objects.select_related("actor")
    actor, action = request.GET.get("actor", ""), request.GET.get("action", "").replace("\0", "")
    if actor.isdecimal() and len(actor) < 10:
        events = events.filter(actor=int(actor))
    if action:
        events = events.filter(action=action)
    query = request.GET.copy()
    query.pop("page", None)
    return render(
        request,
        "audit.html",
        {
            "page": Paginator(events, EVENTS_PER_PAGE).get_page(request.GET.get("page")),
            "query": query.urlencode(),
            "actor": actor,
            "action": action,
            "actors": User.objects.filter(auditevent__isnull=False).distinct().order_by("email"),
            "actions": AuditEvent.objects.order_by("action").values_list("action", flat=True).distinct(),
        },
    )
