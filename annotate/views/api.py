"""The page that explains the API, and the schema it reads."""

from csp.decorators import csp_update
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView

from annotate.roles import MAY_SIGN_IN
from annotate.views.access import needs


class SwaggerPage(SpectacularSwaggerSplitView):
    template_name = "api.html"
    url_name = "api_schema"


# Swagger UI's style sheet carries its icons within itself. Scripts and styles stay as strict as everywhere.
api = csp_update({"img-src": ["data:"]})(needs(MAY_SIGN_IN)(SwaggerPage.as_view()))
api.allowed = MAY_SIGN_IN
api_schema = SpectacularJSONAPIView.as_view()
