"""One's own keys for the ranking page: to be changed, and as the list that the page shows."""

from django.contrib import messages
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache

from annotate.keys import ACTIONS, PRINTED, WrongKeys, change_keys, key_groups, keys_of
from annotate.roles import MAY_ANNOTATE
from annotate.views.access import needs


@never_cache  # one address for the page and for the list alone
@needs(MAY_ANNOTATE)
def keys(request):
    """Every action with its key; what is left empty goes back to the usual key."""
    if request.htmx:
        return render(request, "keys.html#dialog", {"key_groups": key_groups(request.user)})
    chosen, problem = keys_of(request.user), ""
    if request.method == "POST":
        chosen = {action: request.POST.get(action, "") for action in ACTIONS}
        try:
            change_keys(user=request.user, chosen={} if "reset" in request.POST else chosen)
        except WrongKeys as wrong:
            problem = str(wrong)
        else:
            messages.success(request, _("Your keys are kept with your account."))
            return redirect("keys")
    rows = [(action, label, PRINTED.get(usual, usual), chosen[action]) for action, (usual, label) in ACTIONS.items()]
    return render(request, "keys.html", {"rows": rows, "problem": problem}, status=422 if problem else 200)
