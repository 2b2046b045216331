"""Pools: the list, one pool's progress, its settings, its guidelines, pause and resume."""

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from annotate.forms import GuidelinesForm, NewPoolForm, PauseForm, PoolForm
from annotate.models import Comparison, Policy, PromptPool
from annotate.progress import agreement, people_at_work, pools_with_counts, skips_of, why_skipped
from annotate.roles import MAY_MANAGE
from annotate.services.pools import change_pool, make_pool, pause_pool, resume_pool, write_guidelines
from annotate.views.access import needs


@needs(MAY_MANAGE)
def pools(request):
    return render(request, "pools.html", {"pools": pools_with_counts(), "has_policy": Policy.objects.exists()})


@needs(MAY_MANAGE)
def pool(request, pool_id: int):
    shown = get_object_or_404(pools_with_counts(), pk=pool_id)
    gold = shown.comparisons.exclude(kind=Comparison.Kind.FRESH).filter(is_withdrawn=False)
    return render(
        request,
        "pool.html",
        {
            "pool": shown,
            "agreement": agreement(shown),
            "people": people_at_work(shown),
            "skips": skips_of(shown).count(),
            "reasons": why_skipped(shown),
            "gold_count": gold.filter(kind=Comparison.Kind.GOLD).count(),
            "training_ready": gold.filter(kind=Comparison.Kind.TRAINING).count(),
            "member_count": shown.memberships.count(),
            "pause_form": PauseForm(),
        },
    )


@needs(MAY_MANAGE)
def pool_new(request):
    form = NewPoolForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            made = make_pool(by=request.user, guidelines=form.cleaned_data["guidelines"], **form.values())
        except ValidationError as error:
            form.add_error(None, error)
        else:
            messages.success(request, _("The pool is made. Next: give it prompts."))
            return redirect("pool_import", made.pk)
    return render(request, "pool_new.html", {"form": form})


@needs(MAY_MANAGE)
def pool_edit(request, pool_id: int):
    edited = get_object_or_404(PromptPool, pk=pool_id)
    name = edited.name
    form = PoolForm(request.POST or None, instance=edited)
    if request.method == "POST" and form.is_valid():
        try:
            change_pool(pool=edited, by=request.user, **form.values())
        except ValidationError as error:
            form.add_error(None, error)
        else:
            messages.success(request, _("The settings are saved."))
            return redirect("pool", pool_id)
    return render(request, "pool_edit.html", {"pool": edited, "name": name, "form": form})


@needs(MAY_MANAGE)
def pool_guidelines(request, pool_id: int):
    """Write the next version; every version stays readable. An htmx request only wants the preview."""
    shown = get_object_or_404(PromptPool, pk=pool_id)
    newest = shown.guidelines
    form = GuidelinesForm(request.POST or None, initial={"text": newest.text if newest else ""})
    if request.htmx:
        return render(request, "pool_guidelines.html#preview", {"preview": request.POST.get("text", "")[:50_000]})
    if request.method == "POST" and form.is_valid():
        version = write_guidelines(pool=shown, text=form.cleaned_data["text"], by=request.user)
        if newest is not None and version.pk == newest.pk:
            messages.info(request, _("Nothing changed: this is the newest version already."))
        else:
            messages.success(
                request, _("Version %(number)s is what annotators read from now on.") % {"number": version.version}
            )
        return redirect("pool_guidelines", pool_id)
    versions = shown.guideline_versions.select_related("created_by")
    return render(
        request,
        "pool_guidelines.html",
        {"pool": shown, "form": form, "versions": versions, "preview": form["text"].value() or ""},
    )


@needs(MAY_MANAGE)
@require_POST
def pool_pause(request, pool_id: int):
    paused = get_object_or_404(PromptPool, pk=pool_id)
    form = PauseForm(request.POST)
    if form.is_valid():
        pause_pool(pool=paused, reason=form.cleaned_data["reason"], by=request.user)
        messages.success(request, _("The pool is paused. Nobody gets a new comparison from it."))
    else:
        messages.error(request, _("Say in a sentence why the pool pauses."))
    return redirect("pool", pool_id)


@needs(MAY_MANAGE)
@require_POST
def pool_resume(request, pool_id: int):
    resume_pool(pool=get_object_or_404(PromptPool, pk=pool_id), by=request.user)
    messages.success(request, _("The pool is active again."))
    return redirect("pool", pool_id)
