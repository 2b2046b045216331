"""A pool's prompts: find them, retire them, import more."""

from django.contrib import messages
from django.core.paginator import Paginator
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST

from annotate.errors import Refused
from annotate.forms import ImportForm, PromptSearchForm
from annotate.models import Prompt, PromptPool
from annotate.progress import tags_of
from annotate.roles import MAY_MANAGE
from annotate.services.imports import BAD_ROWS_LISTED, ImportReport, import_prompts
from annotate.services.pools import restore_prompt, retire_prompt
from annotate.views.access import needs
from annotate.views.outcome import told

PROMPTS_PER_PAGE = 50


@needs(MAY_MANAGE)
def pool_prompts(request, pool_id: int):
    """Every prompt, or those that a search finds; htmx swaps the list alone."""
    pool = get_object_or_404(PromptPool, pk=pool_id)
    form = PromptSearchForm(request.GET, tags=tags_of(pool))
    page = Paginator(form.prompts(pool), PROMPTS_PER_PAGE).get_page(request.GET.get("page"))
    query = request.GET.copy()
    query.pop("page", None)
    template = "pool_prompts.html#found" if request.htmx else "pool_prompts.html"
    return render(request, template, {"pool": pool, "form": form, "page": page, "query": query.urlencode()})


@needs(MAY_MANAGE)
@require_POST
def pool_prompt_retire(request, pool_id: int, prompt_id: int):
    prompt = get_object_or_404(Prompt.objects.select_related("pool"), pk=prompt_id, pool=pool_id)
    with told(request, _("The prompt is retired: it is asked no more.")):
        retire_prompt(prompt=prompt, by=request.user)
    return redirect("pool_prompts", pool_id)


@needs(MAY_MANAGE)
@require_POST
def pool_prompt_restore(request, pool_id: int, prompt_id: int):
    prompt = get_object_or_404(Prompt.objects.select_related("pool"), pk=prompt_id, pool=pool_id)
    with told(request, _("The prompt is in use again.")):
        restore_prompt(prompt=prompt, by=request.user)
    return redirect("pool_prompts", pool_id)


@needs(MAY_MANAGE)
def pool_import(request, pool_id: int):
    """Prompts from a file or pasted: all of them or, with a report of every bad row, none."""
    pool = get_object_or_404(PromptPool, pk=pool_id)
    form = ImportForm(request.POST or None, request.FILES or None)
    report = None
    if request.method == "POST" and form.is_valid():
        file, format = form.source()
        try:
            report = import_prompts(pool=pool, file=file, format=format, actor=request.user)
        except Refused as refusal:
            form.add_error("file" if form.cleaned_data["file"] else "pasted", str(refusal))
        else:
            if report.is_imported:
                messages.success(request, told_of(report))
                return redirect("pool_prompts", pool_id)
    context = {"pool": pool, "form": form, "report": report, "most_listed": BAD_ROWS_LISTED}
    return render(request, "pool_import.html", context)


def told_of(report: ImportReport) -> str:
    """What was imported, in a sentence."""
    sentence = ngettext("%(n)d prompt was imported.", "%(n)d prompts were imported.", report.added) % {
        "n": report.added
    }
    if report.duplicates:
        sentence += " " + ngettext("%(n)d was there already.", "%(n)d were there already.", report.duplicates) % {
            "n": report.duplicates
        }
    if report.ignored:
        sentence += " " + _("Not read: the columns %(names)s.") % {"names": ", ".join(sorted(report.ignored))}
    return sentence
