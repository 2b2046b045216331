"""Who may send a token how, and what comes back."""

from rest_framework.authentication import TokenAuthentication, get_authorization_header
from rest_framework.negotiation import BaseContentNegotiation


class ApiToken(TokenAuthentication):
    """“Authorization: Token …”, or “Bearer …” as Prometheus and clients of OpenAI's API have it."""

    def authenticate(self, request):
        if get_authorization_header(request).lower().startswith(b"bearer "):
            self.keyword = "Bearer"
        return super().authenticate(request)


class AlwaysTheSame(BaseContentNegotiation):
    """JSON, or the file that was asked for, whatever the Accept header says: nobody gets a 406 for an export."""

    def select_parser(self, request, parsers):
        media = request.content_type.partition(";")[0].strip().lower()
        return next((parser for parser in parsers if parser.media_type in (media, "*/*")), None)

    def select_renderer(self, request, renderers, format_suffix=None):
        return renderers[0], renderers[0].media_type
