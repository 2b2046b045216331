"""The page that explains the API, and the schema that it is made from."""

from django.shortcuts import render
from drf_spectacular.views import SpectacularJSONAPIView

from annotate.api_page import calls_by_topic, errors_of, whole_schema
from annotate.roles import MAY_SIGN_IN
from annotate.views.access import needs


@needs(MAY_SIGN_IN)
def api(request):
    schema = whole_schema()
    topics = calls_by_topic(schema, site=request.build_absolute_uri("/").rstrip("/"))
    return render(request, "api.html", {"topics": topics, "errors": errors_of(schema)})


api_schema = SpectacularJSONAPIView.as_view()
