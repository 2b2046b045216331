"""Who has a place in a pool."""

from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from annotate.forms import MemberForm
from annotate.models import PoolMember, PromptPool
from annotate.roles import MAY_MANAGE
from annotate.services.pools import add_member, let_through, remove_member
from annotate.views.access import needs
from annotate.views.outcome import told


@needs(MAY_MANAGE)
def pool_members(request, pool_id: int):
    pool = get_object_or_404(PromptPool, pk=pool_id)
    form = MemberForm(request.POST or None, pool=pool)
    if request.method == "POST" and form.is_valid():
        person = form.cleaned_data["person"]
        with told(request, _("%(person)s is a member now.") % {"person": person}):
            add_member(pool=pool, user=person, by=request.user)
        return redirect("pool_members", pool_id)
    members = pool.memberships.select_related("user").order_by("user__email")
    return render(request, "pool_members.html", {"pool": pool, "form": form, "members": members})


@needs(MAY_MANAGE)
@require_POST
def pool_member_remove(request, pool_id: int, member_id: int):
    member = get_object_or_404(PoolMember.objects.select_related("user", "pool"), pk=member_id, pool=pool_id)
    with told(request, _("%(person)s is no longer a member.") % {"person": member.user}):
        remove_member(member=member, by=request.user)
    return redirect("pool_members", pool_id)


@needs(MAY_MANAGE)
@require_POST
def pool_member_let_through(request, pool_id: int, member_id: int):
    member = get_object_or_404(PoolMember.objects.select_related("user", "pool"), pk=member_id, pool=pool_id)
    with told(request, _("%(person)s is through the training.") % {"person": member.user}):
        let_through(member=member, by=request.user)
    return redirect("pool_members", pool_id)
