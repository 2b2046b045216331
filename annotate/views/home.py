"""The address everybody starts from: to one's work."""

from django.shortcuts import redirect

from annotate.roles import MAY_MANAGE, MAY_RESEARCH, MAY_SIGN_IN, has_role
from annotate.views.access import needs


@needs(MAY_SIGN_IN)
def home(request):
    if has_role(request.user, MAY_MANAGE):
        return redirect("pools")
    if has_role(request.user, MAY_RESEARCH):
        return redirect("checkpoints")
    return redirect("rank")
