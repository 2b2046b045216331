"""Policies: make one, and say when and how it learns again."""

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _

from annotate.models import Policy
from annotate.roles import MAY_MANAGE
from annotate.services.policies import change_policy, make_policy
from annotate.views.access import needs
from trainer.forms import NewPolicyForm, PolicyForm


@needs(MAY_MANAGE)
def policy_new(request):
    form = NewPolicyForm(request.POST or None, user=request.user)
    if request.method == "POST" and form.is_valid():
        try:
            made = make_policy(by=request.user, **form.values())
        except ValidationError as error:
            form.add_error(None, error)
        else:
            messages.success(request, _("The policy %(name)s is made. Next: a pool for it.") % {"name": made.name})
            return redirect("pool_new")
    return render(request, "policy_new.html", {"form": form})


@needs(MAY_MANAGE)
def policy_edit(request, policy_id: int):
    policy = get_object_or_404(Policy, pk=policy_id)
    form = PolicyForm(request.POST or None, instance=policy)
    if request.method == "POST" and form.is_valid():
        try:
            change_policy(policy=policy, by=request.user, **form.values())
        except ValidationError as error:
            form.add_error(None, error)
        else:
            messages.success(request, _("The settings are saved. They hold from the next run on."))
            return redirect("runs")
    return render(request, "policy_edit.html", {"policy": policy, "form": form})
