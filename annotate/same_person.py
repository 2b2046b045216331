"""A page that was left open is of whoever opened it, also once somebody else has signed in in the same browser."""

from django.http import JsonResponse
from django.utils.translation import gettext as _

HEADER = "X-Whetstone-Person"


def same_person(get_response):
    """Middleware: refuse, with 403, what a page asks for its person under the session of another.

    The ranking page says in HEADER whose it is. Nobody's session is for the sign-in to answer, not for this.
    """

    def guarded(request):
        person = request.headers.get(HEADER)
        if person is not None and request.user.is_authenticated and person != str(request.user.pk):
            detail = _("Somebody else is signed in in this browser now.")
            return JsonResponse({"code": "another_person", "detail": detail}, status=403)
        return get_response(request)

    return guarded
