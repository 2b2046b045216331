"""Who may see a page. A view names its roles with `needs`; one that names none is found by the permission test."""

from functools import wraps

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.shortcuts import resolve_url
from django_htmx.http import HttpResponseClientRedirect

from annotate.roles import has_role
from annotate.same_person import HEADER


def needs(roles: frozenset[str]):
    """Let in signed-in people with one of `roles`. Strangers go to the sign-in page, everybody else gets a 403.

    The roles stay on the view as `view.allowed`, so that a test can read who may see which address.
    """

    def decorate(view):
        @wraps(view)
        def guarded(request, *args, **kwargs):
            if not request.user.is_authenticated:
                return to_sign_in(request)
            if not has_role(request.user, roles):
                raise PermissionDenied
            return view(request, *args, **kwargs)

        guarded.allowed = roles
        return guarded

    return decorate


def to_sign_in(request):
    """The sign-in page, and from there back. A fragment asked for by htmx moves the whole page, not its own place.

    The ranking page's script asks for fragments too, but stays where it is: there may be words on it not stored yet.
    """
    if request.htmx and HEADER not in request.headers:
        back = request.htmx.current_url_abs_path or resolve_url("home")
        return HttpResponseClientRedirect(redirect_to_login(back).url)
    return redirect_to_login(request.get_full_path() if request.method == "GET" else resolve_url("home"))
