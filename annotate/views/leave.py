"""The page between a link in a text, which a model may have written, and where it leads."""

from urllib.parse import urlsplit

from django.http import Http404
from django.shortcuts import render

from annotate.rendering import is_web_address, raw
from annotate.roles import MAY_SIGN_IN
from annotate.views.access import needs


@needs(MAY_SIGN_IN)
def leave(request):
    """Show the address, invisible characters and all, before anybody follows it."""
    address = request.GET.get("to", "")
    if not is_web_address(address):
        raise Http404
    try:
        host = urlsplit(address).hostname or ""
        host = host.encode("idna").decode() if not host.isascii() else host
    except ValueError:  # UnicodeError is one
        host = ""
    return render(request, "leave.html", {"address": address, "shown": raw(address), "host": host})
