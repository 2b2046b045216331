"""Snapshots: frozen, hashed sets of rankings, each with the card that goes with its data."""

from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from annotate.dataset_card import dataset_card
from annotate.errors import Refused
from annotate.forms import SnapshotForm
from annotate.models import PolicyCheckpoint, PreferenceSnapshot
from annotate.roles import MAY_RESEARCH
from annotate.services.snapshots import freeze_preferences
from annotate.views.access import needs

SNAPSHOTS_PER_PAGE = 50


@needs(MAY_RESEARCH)
def snapshots(request):
    """Every snapshot, and a form to freeze one now."""
    form = SnapshotForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            made = freeze_preferences(
                policy=form.cleaned_data["policy"], created_by=request.user, note=form.cleaned_data["note"]
            )
        except Refused as refusal:
            form.add_error("policy", str(refusal))
        else:
            return redirect("snapshot", made.pk)
    found = PreferenceSnapshot.objects.select_related("policy", "created_by")
    page = Paginator(found, SNAPSHOTS_PER_PAGE).get_page(request.GET.get("page"))
    return render(request, "snapshots.html", {"form": form, "page": page})


@needs(MAY_RESEARCH)
def snapshot(request, snapshot_id: int):
    shown = get_object_or_404(PreferenceSnapshot.objects.select_related("policy", "created_by"), pk=snapshot_id)
    trained = PolicyCheckpoint.objects.filter(run__snapshot=shown).select_related("policy")
    _head, card = dataset_card(shown).split("\n---\n", 1)
    return render(request, "snapshot.html", {"snapshot": shown, "card": card, "checkpoints": trained})


@needs(MAY_RESEARCH)
def snapshot_card(request, snapshot_id: int):
    """The card as the README.md that data set hubs read."""
    shown = get_object_or_404(PreferenceSnapshot.objects.select_related("policy"), pk=snapshot_id)
    response = HttpResponse(dataset_card(shown), content_type="text/markdown; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="README.md"'
    return response
