"""People: who is here, who is invited, what each may do, and how their work looks."""

from django.contrib import messages
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from annotate.errors import Refused
from annotate.forms import InvitationForm, RoleForm
from annotate.lineage import checkpoints_touched_by
from annotate.models import AuditEvent, Invitation, User
from annotate.progress import people_with_numbers, person_with_numbers, pools_of
from annotate.roles import MAY_MANAGE, roles_of
from annotate.services.invitations import invite_person, revoke_invitation
from annotate.services.people import change_role, deactivate_person, reactivate_person, withdraw_person
from annotate.views.access import needs
from annotate.views.outcome import told


@needs(MAY_MANAGE)
def people(request):
    """Everybody, open invitations, and a form to invite. The link of a new invitation is shown to be copied."""
    form = InvitationForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            made = invite_person(by=request.user, **form.cleaned_data)
        except Refused as refusal:
            form.add_error("email", str(refusal))
        else:
            request.session["new_invitation"] = made.pk
            return redirect("people")
    invitations = list(Invitation.objects.open().select_related("created_by"))
    for invitation in invitations:
        invitation.link = request.build_absolute_uri(reverse("invitation", args=[invitation.token]))
    new = request.session.pop("new_invitation", None) if request.method == "GET" else None
    return render(
        request,
        "people.html",
        {
            "people": people_with_numbers(),
            "invitations": invitations,
            "new_invitation": next((each for each in invitations if each.pk == new), None),
            "form": form,
        },
    )


@needs(MAY_MANAGE)
@require_POST
def invitation_revoke(request, invitation_id: int):
    invitation = get_object_or_404(Invitation, pk=invitation_id)
    with told(request, _("The link for %(email)s no longer works.") % {"email": invitation.email}):
        revoke_invitation(invitation=invitation, by=request.user)
    return redirect("people")


@needs(MAY_MANAGE)
def person(request, person_id: int):
    """One person: numbers, role, and what their answers went into."""
    shown = person_with_numbers(get_object_or_404(User, pk=person_id))
    role = next(iter(sorted(roles_of(shown))), None) if not shown.is_superuser else None
    return render(
        request,
        "person.html",
        {
            "person": shown,
            "roles": roles_of(shown),
            "pools": pools_of(shown),
            "role_form": RoleForm(initial={"role": role}),
            "checkpoints": checkpoints_touched_by(shown),
            "events": AuditEvent.objects.filter(actor=shown)[:10],
        },
    )


@needs(MAY_MANAGE)
@require_POST
def person_role(request, person_id: int):
    user = get_object_or_404(User, pk=person_id)
    form = RoleForm(request.POST)
    if form.is_valid():
        with told(request, _("The role is changed.")):
            change_role(user=user, role=form.cleaned_data["role"], by=request.user)
    else:
        messages.error(request, _("Choose one of the roles."))
    return redirect("person", person_id)


@needs(MAY_MANAGE)
@require_POST
def person_deactivate(request, person_id: int):
    with told(request, _("The account is closed. The answers stay and count.")):
        deactivate_person(user=get_object_or_404(User, pk=person_id), by=request.user)
    return redirect("person", person_id)


@needs(MAY_MANAGE)
@require_POST
def person_reactivate(request, person_id: int):
    with told(request, _("The account is open again.")):
        reactivate_person(user=get_object_or_404(User, pk=person_id), by=request.user)
    return redirect("person", person_id)


@needs(MAY_MANAGE)
@require_POST
def person_withdraw(request, person_id: int):
    with told(request, _("Withdrawn: no later snapshot, export or run uses these answers.")):
        withdraw_person(user=get_object_or_404(User, pk=person_id), by=request.user)
    return redirect("person", person_id)
