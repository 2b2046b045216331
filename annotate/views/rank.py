"""The annotator's page: the next comparison, its answer, what a training answer should have been.

With a script the page keeps two comparisons ahead (`rank_next`) and sends answers to the API from its outbox. Without
one, `rank` is a plain form, and leads to itself `in_full`: what all completions have alike is then written into each.
Both end in the same services.
"""

from django.contrib import messages
from django.http import Http404
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from annotate.answer_form import answer_from_form, reason_to_leave, words_of
from annotate.comparison_page import comparison_page
from annotate.errors import Conflict, Refused
from annotate.labels import NOT_RANKABLE_REASONS, SKIP_REASONS
from annotate.languages import foreign_languages
from annotate.models import Assignment, Comparison, GuidelineVersion, Ranking
from annotate.nothing_to_rank import nothing_page
from annotate.page_data import page_data
from annotate.rendering import prose
from annotate.roles import MAY_ANNOTATE
from annotate.selectors import workable_pools
from annotate.services.assignments import lease_next_comparison, skip_comparison
from annotate.services.rankings import submit_ranking
from annotate.training import training_feedback
from annotate.views.access import needs


@never_cache
@needs(MAY_ANNOTATE)
def rank(request):
    """The page with its first comparison on it; posted to, it takes a plain form's answer and shows the next."""
    if request.method == "POST":
        return take_plain_answer(request)
    return next_page(request)


def next_page(request, *, lost_words: str = "", status: int = 200):
    """The page with the next comparison; `lost_words` are of an answer to another that can no longer be sent."""
    pool_id = whole_number(request.GET.get("pool"))
    assignment = lease_next_comparison(annotator=request.user, pool_id=pool_id, holding=())
    if assignment:
        comparison = comparison_page(assignment, in_full="in_full" in request.GET)
    else:
        comparison = nothing_page(request.user, pool_id)
    return ranking_page(request, comparison | {"lost_words": lost_words}, status)


def ranking_page(request, comparison: dict, status: int):
    pool_id = whole_number(request.GET.get("pool"))
    pools = list(workable_pools(request.user))
    chosen_pool = next((pool for pool in pools if pool.pk == pool_id), None)
    context = page_context(request.user, chosen_pool) | {
        "pools": pools,
        "foreign_languages": foreign_languages(pools),
        "chosen_pool": chosen_pool,
        "is_beginner": not Ranking.objects.filter(annotator=request.user).exists(),
    }
    return render(request, "rank.html", context | comparison, status=status)


@require_POST
@needs(MAY_ANNOTATE)
def rank_next(request):
    """The next comparison as a fragment. `holding`: the assignments that this browser has already."""
    holding = [number for value in request.POST.getlist("holding") if (number := whole_number(value)) is not None]
    pool_id = whole_number(request.POST.get("pool"))
    assignment = lease_next_comparison(annotator=request.user, pool_id=pool_id, holding=holding)
    if assignment is None:
        return render(request, "rank.html#nothing", nothing_page(request.user, pool_id))
    return render(request, "rank.html#comparison", comparison_page(assignment) | {"has_script": True})


@require_GET
@needs(MAY_ANNOTATE)
def rank_feedback(request, assignment_id: int):
    """After a training answer: what the right order is, and why."""
    assignment = get_object_or_404(
        Assignment.objects.select_related("comparison__pool").filter(
            annotator=request.user, comparison__kind=Comparison.Kind.TRAINING, status=Assignment.Status.ANSWERED
        ),
        pk=assignment_id,
    )
    template = "rank_feedback.html#dialog" if request.htmx else "rank_feedback.html"
    return render(request, template, training_feedback(assignment))


@require_GET
@needs(MAY_ANNOTATE)
def guidelines(request, version_id: int):
    """One version of a pool's guidelines, as its annotators read it."""
    version = GuidelineVersion.objects.select_related("pool").filter(pk=version_id).first()
    if version is None or not workable_pools(request.user, version.pool_id).exists():
        raise Http404
    context = {"version": version, "html": prose(version.text), "language": version.pool.language}
    return render(request, "guidelines.html#text" if request.htmx else "guidelines.html", context)


def page_context(annotator, pool=None) -> dict:
    """What the page needs beside its comparison: reasons, and what its script is given."""
    return {
        "skip_reasons": SKIP_REASONS.items(),
        "not_rankable_reasons": NOT_RANKABLE_REASONS.items(),
        "page_data": page_data(annotator, pool),
    }


def take_plain_answer(request):
    """The answer of a page without a script: store it, and go back to the page for the next one.

    What is refused is drawn again as it was filled in; where the comparison can no longer be answered, its words stand
    above the next one.
    """
    assignment = get_object_or_404(Assignment, pk=whole_number(request.POST.get("assignment")), annotator=request.user)
    ticket = {"assignment_id": assignment.pk, "annotator": request.user, "token": request.POST.get("token", "")}
    answer = answer_from_form(request.POST, assignment.order)
    try:
        if reason := reason_to_leave(request.POST):
            skip_comparison(**ticket, reason=reason)
        else:
            key = request.POST.get("key", "")[:80]
            ranking, _is_new = submit_ranking(**ticket, idempotency_key=key, answer=answer)
            if not ranking.counts:
                return redirect(reverse("rank_feedback", args=[assignment.pk], query=request.GET))
            messages.success(request, _("Saved."))
    except Conflict as refusal:
        messages.error(request, str(refusal))
        return next_page(request, lost_words=words_of(request.POST, assignment), status=409)
    except Refused as refusal:
        messages.error(request, str(refusal))
        return ranking_page(request, comparison_page(assignment, said=answer), status=422)
    return redirect(request.get_full_path())


def whole_number(value: str | None) -> int | None:
    return int(value) if value and value.isascii() and value.isdigit() and len(value) < 19 else None
