"""Preference data for researchers: choose, look at the first rows, download; or have a program do it."""

from urllib.parse import urlencode

from django.db.models import Count, Q
from django.shortcuts import render
from django.urls import reverse

from annotate.errors import Refused
from annotate.exports import FORMATS
from annotate.exports.download import export_response
from annotate.forms import ExportForm
from annotate.models import Ranking
from annotate.preferences import PreferenceFilters, ranking_rows
from annotate.roles import MAY_RESEARCH
from annotate.views.access import needs

ROWS_SHOWN = 5
RANKINGS_LOOKED_AT = 50  # for the first rows: rankings without a pair are passed over, but not for ever


@needs(MAY_RESEARCH)
def preferences(request):
    """The choice and what it holds. htmx swaps what it holds alone."""
    form = ExportForm(request.GET or None)
    context = {"form": form, "found": None}
    filters = filters_of(form)
    if filters is not None:
        context["found"] = contents(filters, form.chosen("format"))
        context |= addresses(request, form)
    return render(request, "preferences.html#found" if request.htmx else "preferences.html", context)


@needs(MAY_RESEARCH)
def preferences_download(request):
    """The file. A choice that cannot be is explained on the page instead."""
    form = ExportForm(request.GET)
    filters = filters_of(form)
    if filters is not None:
        try:
            return export_response(format=form.chosen("format"), file_type=form.chosen("file"), filters=filters)
        except Refused as refusal:
            form.add_error(None, str(refusal))
    return render(request, "preferences.html", {"form": form, "found": None}, status=422)


def filters_of(form: ExportForm) -> PreferenceFilters | None:
    """The filters that the form says; None where it says something that cannot be, and then the form says what."""
    if not form.is_bound:
        return PreferenceFilters()
    if not form.is_valid():
        return None
    try:
        filters = PreferenceFilters.from_values(form.filters())
        filters.refuse_what_is_not_there()
    except Refused as refusal:
        form.add_error(None, str(refusal))
        return None
    return filters


def contents(filters: PreferenceFilters, format: str) -> dict:
    """How many rankings by how many people, and the first rows as they will stand in the file."""
    rankings = filters.apply(Ranking.objects.all())
    held_out = Q(assignment__comparison__prompt__is_held_out=True)
    counts = rankings.aggregate(
        rankings=Count("pk"),
        annotators=Count("annotator", distinct=True),
        prompts=Count("assignment__comparison__prompt", distinct=True),
        held_out=Count("pk", filter=held_out),
    )
    first = list(rankings.order_by("id").values_list("id", flat=True)[:RANKINGS_LOOKED_AT])
    records = [
        record for row in ranking_rows(Ranking.objects.filter(pk__in=first)) for record in FORMATS[format].records(row)
    ]
    return counts | {"rows": records[:ROWS_SHOWN]}


def addresses(request, form: ExportForm) -> dict:
    """Where the same choice is downloaded from, by this page, by the API and on the command line."""
    chosen = {"format": form.chosen("format"), "file": form.chosen("file")}
    query = urlencode(chosen | (form.filters() if form.is_bound else {}))
    return {
        "download": f"{reverse('preferences_download')}?{query}",
        "api_call": request.build_absolute_uri(f"/api/v1/preferences/?{query}"),
        "chosen_file": chosen["file"],
        "file_name": f"preferences.{chosen['file']}",
    }
